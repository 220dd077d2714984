package interop;

import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.impl.mqclient.MQClientAPIExt;
import org.apache.rocketmq.common.message.MessageExt;

/** Requests that the 5.x client has for others to send (RocketMQ's proxy): pops in order, and looking without popping. */
final class PoppingInOrder {
    private PoppingInOrder() {
    }

    static void register(Map<String, Case> cases) {
        if (Kit.isVersion5()) {
            cases.put("pop-in-order", PoppingInOrder::inOrder);
            cases.put("pop-attempt", PoppingInOrder::attempt);
            cases.put("pop-notification", PoppingInOrder::notification);
            cases.put("pop-peek", PoppingInOrder::peek);
        }
    }

    /** A queue has one batch in hand; what of it comes again comes first, with its retries counted. */
    private static void inOrder(Kit kit) throws Exception {
        PopRequests r = new PopRequests(kit);
        Kit.sendMany(r.producer, r.topic, 6);
        List<MessageExt> first = r.pop(3, null);
        Kit.equal(Arrays.asList("m0", "m1", "m2"), PopRequests.bodies(first), "the first batch");
        Kit.equal(0, r.pop(3, null).size(), "messages while a batch is in hand");
        r.ack(first.get(1));
        r.ack(first.get(0));
        Kit.equal(0, r.pop(3, null).size(), "messages while a part of it is in hand");
        r.change(first.get(2), 0);
        List<MessageExt> again = await(r, 1);
        Kit.equal("m2", Kit.text(again.get(0).getBody()), "what comes first");
        Kit.equal(1, again.get(0).getReconsumeTimes(), "its retries");
        r.ack(again.get(0));
        Kit.equal(Arrays.asList("m3", "m4", "m5"), PopRequests.bodies(r.pop(32, null)), "the rest");
    }

    private static List<MessageExt> await(PopRequests r, int count) throws Exception {
        long deadline = System.currentTimeMillis() + Kit.PATIENCE_MS;
        List<MessageExt> got = r.pop(count, null);
        while (got.isEmpty() && System.currentTimeMillis() < deadline) {
            Thread.sleep(20);
            got = r.pop(count, null);
        }
        Kit.equal(count, got.size(), "messages");
        return got;
    }

    /** The same attempt gets the same messages again, no retry more; another one nothing. */
    private static void attempt(Kit kit) throws Exception {
        PopRequests r = new PopRequests(kit);
        Kit.sendMany(r.producer, r.topic, 4);
        Kit.equal(Arrays.asList("m0", "m1"), PopRequests.bodies(r.pop(2, "one")), "the first attempt");
        Kit.equal(0, r.pop(2, "two").size(), "messages of another attempt");
        List<MessageExt> again = r.pop(2, "one");
        Kit.equal(Arrays.asList("m0", "m1"), PopRequests.bodies(again), "the first attempt, again");
        for (MessageExt message : again) {
            Kit.equal(0, message.getReconsumeTimes(), "retries");
            r.ack(message);
        }
        Kit.equal(Arrays.asList("m2", "m3"), PopRequests.bodies(r.pop(2, "two")), "the other attempt");
    }

    /** Whoever asks whether there is something is told at once, or when it comes; in order, when the queue is free. */
    private static void notification(Kit kit) throws Exception {
        PopRequests r = new PopRequests(kit);
        MQClientAPIExt notifier = r.notifier();
        Kit.equal(false, get(r.hasMessage(notifier, 0, false)), "something in an empty queue");
        CompletableFuture<Boolean> waiting = r.hasMessage(notifier, 15_000, false);
        Kit.send(r.producer, r.topic, "", "m0");
        Kit.equal(true, get(waiting), "something that came");
        Kit.send(r.producer, r.topic, "", "m1");
        Kit.equal(true, get(r.hasMessage(notifier, 0, true)), "something in order");
        MessageExt first = await(r, 1).get(0);
        Kit.equal(true, get(r.hasMessage(notifier, 0, false)), "something behind what is in hand");
        Kit.equal(false, get(r.hasMessage(notifier, 0, true)), "something in order behind what is in hand");
        r.ack(first);
        Kit.eventually(true, () -> get(r.hasMessage(notifier, 0, true)), "something in order, when the queue is free");
    }

    private static boolean get(CompletableFuture<Boolean> answer) throws Exception {
        return answer.get(PopRequests.TIMEOUT_MS, TimeUnit.MILLISECONDS);
    }

    /** A peek shows what a pop would get, and leaves it there. */
    private static void peek(Kit kit) throws Exception {
        PopRequests r = new PopRequests(kit);
        Kit.equal(Collections.emptyList(), r.peek(8, 0), "messages of an empty queue");
        Kit.sendMany(r.producer, r.topic, 3);
        Kit.equal(Arrays.asList("m0", "m1"), r.peek(2, 3), "two messages");
        Kit.equal(Arrays.asList("m0", "m1", "m2"), r.peek(8, 3), "all messages");
        Kit.equal(Arrays.asList("m0", "m1", "m2"), PopRequests.bodies(r.pop(8, null)), "messages of a pop");
    }
}
