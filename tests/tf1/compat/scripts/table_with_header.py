"""CSV files with a header line and missing values, summed column by column."""

import json
import os

import tensorflow as tf

folder = os.environ["WORK"]
LINES = {
    "a.csv": [
        "city,people,area,growth,note",
        "Bern,134,51.6,1.5,capital",
        "Basel,173,,0.5,",
        'Biel,55,21.2,,"two, tongues"',
    ],
    "b.csv": ["city,people,area,growth,note", "Chur,38,28.1,-0.25,old", ",1,1.0,1.0,nameless"],
}
for name, lines in LINES.items():
    with open(os.path.join(folder, name), "w") as f:
        f.write("\n".join(lines) + "\n")

filename_queue = tf.train.string_input_producer(
    [os.path.join(folder, "a.csv"), os.path.join(folder, "b.csv")], num_epochs=1, shuffle=False
)
reader = tf.TextLineReader(skip_header_lines=1)
key, value = reader.read(filename_queue)
record_defaults = [["?"], [0], [-1.0], tf.constant([0.0], dtype=tf.float32), [""]]
city, people, area, growth, note = tf.decode_csv(value, record_defaults=record_defaults)
features = tf.stack([area, growth])
line = tf.string_join([city, tf.as_string(people), note], separator="|")
key_parts = tf.string_split([key], delimiter="/").values
names, counts, table, keys = tf.train.batch(
    [line, people, features, key_parts[-1]], batch_size=2, allow_smaller_final_batch=True
)
known = tf.boolean_mask(table, table[:, 0] >= 0)
mean_area = tf.cond(
    tf.greater(tf.shape(known)[0], 0), lambda: tf.reduce_mean(known[:, 0]), lambda: tf.constant(float("-1"))
)

out = []
init_op = tf.initialize_all_variables(), tf.initialize_local_variables()
sess = tf.InteractiveSession()
sess.run(init_op)
coord = tf.train.Coordinator()
threads = tf.train.start_queue_runners(coord=coord)
try:
    while True:
        n, c, t, k, m = sess.run((names, counts, table, keys, mean_area))
        out.append(
            {
                "names": [x.decode() for x in n.tolist()],
                "counts": c.tolist(),
                "table": t.round(4).tolist(),
                "keys": [x.decode() for x in k.tolist()],
                "mean": round(float(m), 4),
            }
        )
except tf.errors.OutOfRangeError as error:
    out.append(type(error).__name__)
finally:
    coord.request_stop()
    coord.join(threads)
    read = reader.num_records_produced().eval(), reader.num_work_units_completed().eval()
    sess.close()
print(json.dumps({"out": out, "read": [int(number) for number in read]}))
