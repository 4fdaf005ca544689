"""The names of ``tf.image``."""

from mpqueue.compat.functions.image_color import *
from mpqueue.compat.functions.image_files import *
from mpqueue.compat.functions.image_shape import *
from mpqueue.compat.functions.random import random_crop
