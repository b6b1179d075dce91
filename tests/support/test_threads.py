import functools
import pickle
import threading

from keras_lapkl._support.threads import Lock, Pool

made = []


def make():
    made.append(object())
    return made[-1]


def test_threads_never_share_a_tool_and_later_ones_take_what_is_there():
    pool = Pool(functools.partial(object))
    with pool.borrowed() as first, pool.borrowed() as second:
        assert first is not second
    with pool.borrowed() as third:
        assert third in (first, second)


def test_a_tool_comes_back_after_an_error():
    pool = Pool(object)
    try:
        with pool.borrowed() as first:
            raise OSError
    except OSError:
        pass
    with pool.borrowed() as second:
        assert second is first


def test_a_copy_of_a_pool_makes_its_own():
    made.clear()
    pool = Pool(make)
    with pool.borrowed(), pickle.loads(pickle.dumps(pool)).borrowed():
        assert len(made) == 2


def test_a_copy_of_a_held_lock_is_open():
    lock = Lock()
    entered = []

    def enter(other):
        with other:
            entered.append(True)

    with lock, lock:  # the same thread may enter twice
        copy = pickle.loads(pickle.dumps(lock))
        thread = threading.Thread(target=enter, args=(copy,))
        thread.start()
        thread.join(10)
    assert entered == [True]
