package interop;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.MQVersion;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.spring.core.RocketMQTemplate;
import org.apache.rocketmq.spring.support.RocketMQHeaders;
import org.springframework.messaging.Message;
import org.springframework.messaging.support.MessageBuilder;

/** RocketMQTemplate: every way to send. */
final class TemplateSending {
    private TemplateSending() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("normal", TemplateSending::normal);
        cases.put("object", TemplateSending::object);
        cases.put("async", TemplateSending::async);
        cases.put("one-way", TemplateSending::oneWay);
        cases.put("batch", TemplateSending::batch);
        cases.put("chosen-queue", TemplateSending::chosenQueue);
        cases.put("empty-and-4-MiB-bodies", TemplateSending::sizes);
        cases.put("refused-names", TemplateSending::refusedNames);
        cases.put("compressed-zlib", TemplateSending::compressed);
        cases.put("ordered", TemplateSending::ordered);
        cases.put("delayed", kit -> comesWhenDue(kit, 5000, (template, topic, message) ->
            template.syncSend(topic, message, 3000, 2)));
        cases.put("timed-delay-seconds", kit -> comesWhenDue(kit, 2000, (template, topic, message) ->
            template.syncSendDelayTimeSeconds(topic, message, 2)));
        cases.put("timed-delay", kit -> comesWhenDue(kit, 2500, (template, topic, message) ->
            template.syncSendDelayTimeMills(topic, message, 2500)));
        cases.put("timed-deliver-at", kit -> comesWhenDue(kit, 3000, (template, topic, message) ->
            template.syncSendDeliverTimeMills(topic, message, System.currentTimeMillis() + 3000)));
        if (!isRequestBroken()) {
            cases.put("request-reply", TemplateSending::requestReply);
        }
        cases.put("message-trace", TemplateSending::trace);
    }

    /** A selector of one's own gets what is otherwise hashed. */
    private static void chosenQueue(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        RocketMQTemplate template = App.start(kit, Collections.emptyList()).template();
        template.setMessageQueueSelector((queues, message, number) -> queues.get(Integer.parseInt((String) number)));
        for (int i = 0; i < 8; i++) {
            SendResult result = template.syncSendOrderly(topic, "m" + i, "" + i % 4);
            Kit.equal(i % 4, result.getMessageQueue().getQueueId(), "queue");
            Kit.equal(i / 4L, result.getQueueOffset(), "queue offset");
        }
    }

    private static void sizes(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 1);
        RocketMQTemplate template = App.start(kit, Arrays.asList("rocketmq.producer.max-message-size=" + 8 * 1024 * 1024,
            "rocketmq.producer.compress-message-body-threshold=" + Integer.MAX_VALUE)).template();
        byte[] large = new byte[4 * 1024 * 1024];
        new Random(1).nextBytes(large);
        Kit.equal(SendStatus.SEND_OK, template.syncSend(topic, large).getSendStatus(), "status");
        Kit.check(Arrays.equals(large, kit.collect(topic).awaitOne().getBody()), "the body is another");
        kit.expectRefused("a body of more than 4 MiB", () -> template.syncSend(topic, new byte[large.length + 1]));
        kit.expectRefused("an empty body", () -> template.syncSend(topic, new byte[0]));
    }

    private static void refusedNames(Kit kit) {
        RocketMQTemplate template = App.start(kit, Collections.emptyList()).template();
        for (String topic : new String[] {"SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC"}) {
            try {
                template.syncSend(topic, "x");
            } catch (RuntimeException e) {
                Kit.check(e.getMessage().contains("CODE: 16") || e.getMessage().contains(topic), "refused for another reason: " + e);
                continue;
            }
            throw new AssertionError("a message to " + topic + " was taken");
        }
    }

    private static void compressed(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 1);
        App app = App.listen(kit, topic, kit.unique("group"), Listeners.Plain.class);
        byte[] body = new byte[100_000];
        Arrays.fill(body, (byte) 'x');
        app.template().syncSend(topic, body);
        MessageExt got = app.inbox().awaitOne();
        Kit.check(Arrays.equals(body, got.getBody()), "the body is another");
        Kit.check(got.getStoreSize() < 2000, "stored with " + got.getStoreSize() + " bytes");
    }

    private static void normal(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        App app = App.listen(kit, topic, kit.unique("group"), Listeners.Plain.class);
        SendResult result = app.template().syncSend(topic + ":TagA", MessageBuilder.withPayload("h\u00e9llo \u8ba2\u5355")
            .setHeader(RocketMQHeaders.KEYS, "key1 key2").setHeader("colour", "d\u00fcnkel\u8ba2").build());
        Kit.equal(SendStatus.SEND_OK, result.getSendStatus(), "status");
        MessageExt got = app.inbox().awaitOne();
        Kit.equal("h\u00e9llo \u8ba2\u5355", Kit.text(got.getBody()), "body");
        Kit.equal("TagA", got.getTags(), "tags");
        Kit.equal("key1 key2", got.getKeys(), "keys");
        Kit.equal("d\u00fcnkel\u8ba2", got.getUserProperty("colour"), "user property");
        Kit.equal(result.getMsgId(), got.getMsgId(), "message id");
        Kit.equal(result.getQueueOffset(), got.getQueueOffset(), "queue offset");
    }

    /** An object becomes JSON and an object again. */
    private static void object(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        App app = App.listen(kit, topic, kit.unique("group"), Listeners.Orders.class);
        Listeners.Order order = new Listeners.Order();
        order.id = "o-1";
        order.amount = 42;
        app.template().convertAndSend(topic, order);
        List<Listeners.Order> orders = app.bean(Listeners.Orders.class).orders;
        Kit.eventually(1, orders::size, "orders");
        Kit.equal("o-1 42", orders.get(0).id + " " + orders.get(0).amount, "order");
    }

    private static void async(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        App app = App.listen(kit, topic, kit.unique("group"), Listeners.Plain.class);
        CountDownLatch done = new CountDownLatch(50);
        AtomicReference<Throwable> failure = new AtomicReference<>();
        for (int i = 0; i < 50; i++) {
            app.template().asyncSend(topic, "m" + i, new SendCallback() {
                @Override
                public void onSuccess(SendResult result) {
                    done.countDown();
                }

                @Override
                public void onException(Throwable e) {
                    failure.set(e);
                    done.countDown();
                }
            });
        }
        Kit.check(done.await(30, TimeUnit.SECONDS), "callbacks missing: " + done.getCount());
        Kit.equal(null, failure.get(), "failure of a send");
        app.inbox().expect(Kit.numbered(50));
    }

    private static void oneWay(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        App app = App.listen(kit, topic, kit.unique("group"), Listeners.Plain.class);
        for (int i = 0; i < 20; i++) {
            app.template().sendOneWay(topic, "m" + i);
        }
        app.inbox().expect(Kit.numbered(20));
    }

    private static void batch(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        App app = App.listen(kit, topic, kit.unique("group"), Listeners.Plain.class);
        List<Message<String>> batch = new ArrayList<>();
        for (int i = 0; i < 40; i++) {
            batch.add(MessageBuilder.withPayload("m" + i).setHeader(RocketMQHeaders.KEYS, "k" + i).build());
        }
        SendResult result = app.template().syncSend(topic + ":T", batch);
        Kit.equal(SendStatus.SEND_OK, result.getSendStatus(), "status");
        app.inbox().expect(Kit.numbered(40));
        for (MessageExt got : app.inbox().messages()) {
            String number = Kit.text(got.getBody()).substring(1);
            Kit.equal(number, "" + got.getQueueOffset(), "queue offset");
            Kit.equal("k" + number, got.getKeys(), "keys");
            Kit.equal("T", got.getTags(), "tags");
        }
    }

    /** Messages of one hash key keep their order through an orderly listener. */
    private static void ordered(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        App app = App.listen(kit, topic, kit.unique("group"), Listeners.Orderly.class);
        for (int i = 0; i < 100; i++) {
            app.template().syncSendOrderly(topic, MessageBuilder.withPayload("m" + i)
                .setHeader(RocketMQHeaders.KEYS, "order" + i % 10).build(), "order" + i % 10);
        }
        app.inbox().expect(Kit.numbered(100));
        int[] last = new int[10];
        for (MessageExt got : app.inbox().messages()) {
            int number = Integer.parseInt(Kit.text(got.getBody()).substring(1));
            Kit.check(number >= last[number % 10], got.getKeys() + ": " + number + " after " + last[number % 10]);
            last[number % 10] = number;
        }
    }

    interface Sending {
        SendResult send(RocketMQTemplate template, String topic, Message<String> message);
    }

    private static void comesWhenDue(Kit kit, long delayMs, Sending sending) throws Exception {
        String topic = kit.createTopic(kit.producer(), 1);
        App app = App.listen(kit, topic, kit.unique("group"), Listeners.Plain.class);
        app.template().syncSend(topic, "first");
        app.inbox().await(1); /* from now on the listener waits in the broker */
        long due = System.currentTimeMillis() + delayMs;
        Kit.equal(SendStatus.SEND_OK, sending.send(app.template(), topic,
            MessageBuilder.withPayload("later").setHeader("colour", "blue").build()).getSendStatus(), "status");
        app.template().syncSend(topic, "at once");
        app.inbox().await(3);
        long came = System.currentTimeMillis();
        Kit.equal(Arrays.asList("first", "at once", "later"), app.inbox().bodies(), "order");
        Kit.check(came >= due && came < due + 20_000, "due at " + due + ", came at " + came);
        Kit.equal("blue", app.inbox().messages().get(2).getUserProperty("colour"), "user property");
    }

    /** request() of these clients does not wait for the reply once the request is sent. */
    private static boolean isRequestBroken() {
        return Kit.isVersion5() && MQVersion.getVersionDesc(MQVersion.CURRENT_VERSION).matches("V5_3_[123]");
    }

    private static void requestReply(Kit kit) throws Exception {
        String topic = kit.createTopic(kit.producer(), 4);
        App.listen(kit, topic, kit.unique("group"), Listeners.Replying.class);
        App asking = App.start(kit, new ArrayList<>()); /* sends nothing before: it makes itself known with its first request */
        for (int i = 0; i < 5; i++) {
            String reply = asking.template().sendAndReceive(topic + ":request", "q" + i, String.class, 10_000);
            Kit.equal("re: q" + i, reply, "reply");
        }
    }

    private static void trace(Kit kit) throws Exception {
        Inbox traces = kit.collect(kit.unique("group"), "RMQ_SYS_TRACE_TOPIC", "*");
        String topic = kit.createTopic(kit.producer(), 4);
        App app = App.start(kit, Arrays.asList("topic=" + topic, "group=" + kit.unique("group"),
            "rocketmq.producer.enable-msg-trace=true"), Listeners.Traced.class);
        String id = app.template().syncSend(topic, "traced").getMsgId();
        app.inbox().await(1);
        for (String type : new String[] {"Pub", "SubBefore", "SubAfter"}) {
            Kit.eventually(true, () -> traces.bodies().stream().anyMatch(b -> b.contains(type) && b.contains(id)),
                "a trace of " + type);
        }
    }
}
