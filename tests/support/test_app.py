import logging

import pytest

from keras_lapkl._support.tensorflow import quiet_tensorflow


@pytest.mark.parametrize("quiet", [False, True])
def test_advice_against_retracing_alone_is_dropped(quiet):
    import tensorflow as tf

    said = logging.Handler()
    records = []
    said.emit = records.append
    logger = tf.get_logger()
    filters, logger.filters = logger.filters, []
    if quiet:
        quiet_tensorflow()
    logger.addHandler(said)
    try:

        def twice(x):
            return 2 * x

        for size in range(20):
            tf.function(twice)(tf.zeros(size))
        logger.warning("Something else.")
    finally:
        logger.removeHandler(said)
        logger.filters = filters
    assert any("retracing" in record.msg for record in records) != quiet
    assert records[-1].msg == "Something else."
