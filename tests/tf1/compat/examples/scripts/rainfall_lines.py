# Lines of two text files, tab-separated, one epoch, in order, batches of three without the remainder.
import os

from outcome import emit
from tfmodule import tf

WORK = os.environ["WORK"]
STATIONS = {
    "coast.tsv": ["Skerry\t12.5\t3", "Lowport\t0\t-1", "Sandbank\t7.25\t12", "Old Pier\t1e1\t0"],
    "hills.tsv": ["Topfell\t31\t-8", "Hollow\t2.75\t5", "Gap\t.5\t1", "Ridge\t18\t-3"],
}


def main():
    for name, lines in STATIONS.items():
        with open(os.path.join(WORK, name), "w") as f:
            f.write("\n".join(lines) + "\n")

    filenames = [os.path.join(WORK, name) for name in sorted(STATIONS)]
    filename_queue = tf.train.string_input_producer(filenames, num_epochs=1, shuffle=False)
    reader = tf.TextLineReader()
    key, value = reader.read(filename_queue)
    station, rain, degrees = tf.decode_csv(value, record_defaults=[["none"], [0.0], [0]], field_delim="\t")
    stations, rains, temperatures, keys = tf.train.batch([station, rain, degrees, key], batch_size=3)
    warm = tf.greater(temperatures, 0)
    inches = rains / 25.0

    batches = []
    with tf.Session() as sess:
        sess.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        coord = tf.train.Coordinator()
        threads = tf.train.start_queue_runners(sess=sess, coord=coord)
        try:
            while not coord.should_stop():
                s, r, t, k, w, i = sess.run([stations, rains, temperatures, keys, warm, inches])
                names = [os.path.basename(name.decode()) for name in k]
                batches.append({"station": s, "rain": r, "degrees": t, "line": names, "warm": w, "inches": i})
        except tf.errors.OutOfRangeError:
            end = "end of input"
        finally:
            coord.request_stop()
            coord.join(threads)
    emit(batches=batches, end=end, threads=len(threads), static=stations.get_shape().as_list())


if __name__ == "__main__":
    main()
