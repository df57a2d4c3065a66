"""The original Python client (it carries the C++ client) at work: the same commands and output as Interop.java."""
import json
import sys
import threading
import time

from rocketmq.client import Message, Producer, PushConsumer, SendStatus


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
            while time.monotonic() < end:
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


def consume(namesrv, topic, group, count, seconds, out):
    seen, lock = set(), threading.Lock()
    f = open(out, "w", encoding="utf-8")

    def text(value):
        return value.decode("utf-8") if isinstance(value, bytes) else value

    def callback(m):
        fields = {"topic": m.topic, "tags": text(m.tags), "keys": text(m.keys), "body": text(m.body), "msgId": m.id,
                  "queueId": m.queue_id, "queueOffset": m.queue_offset, "reconsumeTimes": m.reconsume_times,
                  "bornTimestamp": m.born_timestamp, "storeTimestamp": m.store_timestamp,
                  "user": text(m["index"]), "userText": text(m["\u5c5e\u6027"])}
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


if __name__ == "__main__":
    {"produce": produce, "load": load, "consume": consume}[sys.argv[1]](*sys.argv[2:])
