"""The original Python client (it carries the C++ client) at work: the same commands and output as Interop.java."""
import json
import os
import sys
import threading
import time
import traceback

from rocketmq.client import Message, Producer, PullConsumer, PushConsumer, RecvMessage, SendStatus, dll, ffi_check
from rocketmq.exceptions import ProducerSendSyncFailed
from rocketmq.ffi import MessageModel

# A retry topic that this client misses when it starts it finds 30 seconds later, and takes up at the next rebalance.
PATIENCE = 150
# The brokers' delay levels 1 to 6, in ms.
LEVEL_MS = [0, 1000, 2000, 1000, 1000, 1000, 3000]
CONSUME_SUCCESS, RECONSUME_LATER = 0, 1


def message(topic, i):
    m = Message(topic)
    m.set_tags("Tag" + "ABCDE"[i % 5])
    m.set_keys("key-%d \u952e-%d" % (i, i))
    m.set_property("index", str(i))
    m.set_property("\u5c5e\u6027", '\u503c=%d; "quoted" \\ \ttab' % i)
    m.set_body("message %d \u6d88\u606f \u00e9\u00e8 \U0001f680" % i)
    return m


def line(i, result):
    return json.dumps({"index": i, "status": result.status.name, "acked": result.status == SendStatus.OK,
                       "msgId": result.msg_id, "queueOffset": result.offset}, ensure_ascii=False)


def producer(group, namesrv, timeout_ms):
    p = Producer(group)
    p.set_namesrv_addr(namesrv)
    p.set_timeout(timeout_ms)
    p.start()
    return p


def produce(namesrv, topic, count, out):
    p = producer("interop-py-producer", namesrv, 10000)
    with open(out, "w", encoding="utf-8") as f:
        for i in range(int(count)):
            f.write(line(i, p.send_sync(message(topic, i))) + "\n")
    p.shutdown()


def load(namesrv, topic, seconds, out):
    p = producer("interop-py-load", namesrv, 1000)
    end = time.monotonic() + float(seconds)
    lock, counter = threading.Lock(), iter(range(1 << 30))
    with open(out, "w", encoding="utf-8") as f:
        def work():
            # It goes on until it is told.
            while time.monotonic() < end and not os.path.exists(out + ".enough"):
                with lock:
                    i = next(counter)
                try:
                    result = p.send_sync(message(topic, i))
                except Exception:
                    time.sleep(0.05)
                    continue
                with lock:
                    f.write(line(i, result) + "\n")
                    f.flush()
        threads = [threading.Thread(target=work) for _ in range(4)]
        [t.start() for t in threads]
        [t.join() for t in threads]
    p.shutdown()


def text(value):
    return value.decode("utf-8") if isinstance(value, bytes) else value


def received(m):
    return {"topic": m.topic, "tags": text(m.tags), "keys": text(m.keys), "body": text(m.body), "msgId": m.id,
            "queueId": m.queue_id, "queueOffset": m.queue_offset, "reconsumeTimes": m.reconsume_times,
            "bornTimestamp": m.born_timestamp, "storeTimestamp": m.store_timestamp,
            "user": text(m["index"]), "userText": text(m["\u5c5e\u6027"])}


def consume(namesrv, topic, group, count, seconds, out):
    seen, lock = set(), threading.Lock()
    f = open(out, "w", encoding="utf-8")

    def callback(m):
        fields = received(m)
        with lock:
            f.write(json.dumps(fields, ensure_ascii=False) + "\n")
            f.flush()
            seen.add(m.id)

    c = PushConsumer(group)
    c.set_namesrv_addr(namesrv)
    c.subscribe(topic, callback)
    c.start()
    end = time.monotonic() + float(seconds)
    while len(seen) < int(count) and time.monotonic() < end:
        time.sleep(0.02)
    c.shutdown()


def life(namesrv, cold, out):
    """What an application does with the client all its life: the parts of Life.java that this client can do."""
    p, lock = producer("life-py", namesrv, 10000), threading.Lock()
    with open(out, "w", encoding="utf-8") as f:
        def run(part):
            start, fields = time.monotonic(), {"part": part.__name__.replace("_", "-")}
            try:
                fields["messages"] = part(namesrv, p)
            except Exception as e:
                traceback.print_exc()
                fields["error"] = repr(e)
            fields["ms"] = int(1000 * (time.monotonic() - start))
            with lock:
                f.write(json.dumps(fields) + "\n")
        parts = [delay, retry, orderly, broadcast, tags, pull, async_and_oneway]
        # One by one: while one thread asks for a route, this client tells the others that there is none.
        for part in parts:
            send(p, message(topic_of(part), -1))
        threads = [threading.Thread(target=run, args=(part,)) for part in parts]
        [t.start() for t in threads]
        [t.join() for t in threads]
    p.shutdown()


class Seen:
    """What a consumer was given, without the messages that only create their topics."""

    def __init__(self):
        self.all, self.lock = [], threading.Lock()

    def add(self, m):
        fields = received(m)
        fields.update(arrived=time.time(), level=m.delay_time_level, index=int(fields["user"]),
                      retryTopic=text(m["RETRY_TOPIC"]))
        if fields["index"] >= 0:
            with self.lock:
                self.all.append(fields)
        return fields

    def wait(self, count):
        until("message %d" % count, lambda: len(self.all) >= count)
        time.sleep(0.3)
        with self.lock:
            return list(self.all)

    def once(self, count):
        got = self.wait(count)
        equal(count, len(got), "messages")
        equal(count, len({m["msgId"] for m in got}), "different messages")
        return got


def delay(namesrv, p):
    topic, seen, levels, sent_at = topic_of(delay), Seen(), [1, 2, 6, 99], {}
    c = push(namesrv, "life-py-delay", topic, seen.add)
    for i in range(40):
        m = message(topic, i)
        m.set_delay_time_level(levels[i % 4])
        sent_at[i] = time.time()
        send(p, m)
    for m in seen.once(40):
        same(topic, m)
        level = min(levels[m["index"] % 4], 6)
        took = int(1000 * (m["arrived"] - sent_at[m["index"]]))
        check(took >= LEVEL_MS[level] - 1, "message %d came early" % m["index"])
        # When it is stored is the broker's doing; when it arrives, that of a busy machine too.
        late = m["storeTimestamp"] - m["bornTimestamp"] - LEVEL_MS[level]
        check(0 <= late < 5000, "message %d was stored %d ms after it was due" % (m["index"], late))
        equal(level, m["level"], "the level")
    c.shutdown()
    return 40


def retry(namesrv, p):
    topic, seen, times = topic_of(retry), Seen(), {}
    # The group's first consumer creates the retry topic, which the next one finds when it starts.
    push(namesrv, "life-py-retry", topic, Seen().add).shutdown()

    def fails_at_first(_, m):
        m = seen.add(RecvMessage(m))
        return RECONSUME_LATER if m["index"] % 3 > m["reconsumeTimes"] else CONSUME_SUCCESS

    c = PushConsumer("life-py-retry")
    c.set_namesrv_addr(namesrv)
    c.set_instance_name("life-py-retry-2")
    ffi_check(dll.Subscribe(c._handle, topic.encode(), b"*"))
    c._register_callback(fails_at_first)
    c.start()
    for i in range(12):
        send(p, message(topic, i))
    # One that fails takes those with it that this client has pulled with it, and it shows only some of them: what counts is how
    # often the last delivery says that it was tried, not how many were shown.
    tried = lambda i: max((m["reconsumeTimes"] for m in list(seen.all) if m["index"] == i), default=-1)
    until("12 messages to be consumed", lambda: all(tried(i) >= i % 3 for i in range(12)))
    for m in list(seen.all):
        same(topic, m)
        told = "message %d was tried %d times" % (m["index"], m["reconsumeTimes"])
        check(m["reconsumeTimes"] >= times.get(m["index"], 0), told + ", after %r" % times)
        times[m["index"]] = m["reconsumeTimes"] + 1
        equal(topic if m["reconsumeTimes"] else "", m["retryTopic"] or "", "where it came from")
    c.shutdown()
    return len(seen.all)


def orderly(namesrv, p):
    topic, seen, places = topic_of(orderly), Seen(), {}
    c = push(namesrv, "life-py-orderly", topic, seen.add, orderly=True)
    for i in range(100):
        result = p.send_orderly(message(topic, i), i % 4)
        equal(SendStatus.OK, result.status, "the status of a send")
        places[i] = result.offset
    got = seen.once(100)
    for queue in range(4):
        own = [m["index"] for m in got if m["queueId"] == queue]
        equal(list(range(queue, 100, 4)), own, "the order of queue %d" % queue)
    for m in got:
        same(topic, m)
        equal(places[m["index"]], m["queueOffset"], "the place in its queue")
    c.shutdown()
    return 100


def broadcast(namesrv, p):
    topic, seen = topic_of(broadcast), [Seen(), Seen()]
    consumers = [push(namesrv, "life-py-broadcast", topic, one.add, message_model=MessageModel.BROADCASTING) for one in seen]
    # Such a consumer of this client begins at the end.
    time.sleep(3)
    for i in range(40):
        send(p, message(topic, i))
    for one in seen:
        [same(topic, m) for m in one.once(40)]
    [c.shutdown() for c in consumers]
    return 80


def tags(namesrv, p):
    topic, seen = topic_of(tags), Seen()
    c = push(namesrv, "life-py-tags", topic, seen.add, expression="TagA || TagC")
    for i in range(50):
        send(p, message(topic, i))
    got = seen.once(20)
    [same(topic, m) for m in got]
    equal([i for i in range(50) if i % 5 in (0, 2)], sorted(m["index"] for m in got), "what passes the filter")
    c.shutdown()
    return 20


def pull(namesrv, p):
    topic, seen = topic_of(pull), Seen()
    for i in range(60):
        send(p, message(topic, i))
    c = PullConsumer("life-py-pull")
    c.set_namesrv_addr(namesrv)
    c.start()
    end = time.monotonic() + PATIENCE
    while len(seen.all) < 60 and time.monotonic() < end:
        for m in c.pull(topic):
            seen.add(m)
    [same(topic, m) for m in seen.once(60)]
    c.shutdown()
    return 60


def async_and_oneway(namesrv, p):
    topic, seen, results, failed = topic_of(async_and_oneway), Seen(), [], []
    c = push(namesrv, "life-py-async", topic, seen.add)
    kept = [message(topic, i) for i in range(100)]
    for m in kept:
        p.send_async(m, results.append, failed.append)
    for i in range(100, 150):
        p.send_oneway(message(topic, i))
    until("all are called back", lambda: len(results) + len(failed) == 100)
    equal([], failed, "failed sends")
    [same(topic, m) for m in seen.once(150)]
    c.shutdown()
    return 150


def topic_of(part):
    return "LifePy" + part.__name__


def send(p, m):
    for left in reversed(range(50)):
        try:
            return equal(SendStatus.OK, p.send_sync(m).status, "the status of a send")
        except ProducerSendSyncFailed as e:
            # Its own word while another thread of it asks for routes; nothing was sent.
            if "No route info" not in str(e) or not left:
                raise
            time.sleep(0.1)


instances = iter(range(1 << 30))


def push(namesrv, group, topic, callback, expression="*", **options):
    c = PushConsumer(group, **options)
    c.set_namesrv_addr(namesrv)
    c.set_instance_name("%s-%d" % (group, next(instances)))
    c.subscribe(topic, callback, expression)
    c.start()
    return c


def same(topic, m):
    i = m["index"]
    expected = {"topic": topic, "tags": "Tag" + "ABCDE"[i % 5], "keys": "key-%d \u952e-%d" % (i, i),
                "body": "message %d \u6d88\u606f \u00e9\u00e8 \U0001f680" % i, "user": str(i),
                "userText": '\u503c=%d; "quoted" \\ \ttab' % i}
    for field, value in expected.items():
        equal(value, m[field], "%s of message %d" % (field, i))
    check(m["storeTimestamp"] >= m["bornTimestamp"] - 50, "message %d was stored early" % i)


def until(what, holds):
    end = time.monotonic() + PATIENCE
    while not holds():
        check(time.monotonic() < end, "waited in vain for " + what)
        time.sleep(0.02)


def check(holds, what):
    if not holds:
        raise AssertionError(what)


def equal(expected, found, what):
    check(expected == found, "%s: expected %r, found %r" % (what, expected, found))


if __name__ == "__main__":
    {"produce": produce, "load": load, "consume": consume, "life": life}[sys.argv[1]](*sys.argv[2:])
