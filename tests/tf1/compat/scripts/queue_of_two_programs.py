"""Two programs: one runs the server and dequeues elements, the other one enqueues them."""

import json
import os
import subprocess
import sys

import tensorflow as tf

queue = tf.FIFOQueue(4, [tf.int32, tf.string], shared_name="work")


def produce(target):
    number = tf.placeholder(tf.int32, [])
    put = queue.enqueue([number, tf.as_string(number * number)])
    with tf.Session(target) as session:
        for each in range(10):
            session.run(put, {number: each})
        session.run(queue.close())


def consume():
    server = tf.train.Server.create_local_server()
    other = subprocess.Popen(sys.orig_argv, env={**os.environ, "TARGET": server.target})
    taken = queue.dequeue()
    found = []
    with tf.Session(server.target) as session:
        try:
            while True:
                number, text = session.run(taken)
                found.append([int(number), text.decode()])
        except tf.errors.OutOfRangeError:
            print(json.dumps({"found": found, "other": other.wait()}))


if "TARGET" in os.environ:
    produce(os.environ["TARGET"])
else:
    consume()
