package interop;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.MQVersion;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;

/** What every case needs: names of its own, clients that are shut down at its end, and checks that say what was wrong. */
final class Kit implements AutoCloseable {
    static final long PATIENCE_MS = 30_000;
    private static final AtomicInteger COUNT = new AtomicInteger();

    final String namesrv;
    final String broker;
    private final String name;
    private final Deque<AutoCloseable> open = new ArrayDeque<>();

    Kit(String name, String namesrv, String broker) {
        this.name = name;
        this.namesrv = namesrv;
        this.broker = broker;
    }

    @Override
    public void close() throws Exception {
        while (!open.isEmpty()) {
            open.pop().close();
        }
    }

    /** Closed at the end of the case, the last one first. */
    <T extends AutoCloseable> T later(T resource) {
        open.push(resource);
        return resource;
    }

    static boolean isVersion5() {
        return MQVersion.CURRENT_VERSION >= MQVersion.Version.valueOf("V4_9_8").ordinal() + 1;
    }

    /** A name for a topic or a group that nobody else uses. */
    String unique(String what) {
        return name + "-" + what + "-" + COUNT.incrementAndGet();
    }

    DefaultMQProducer producer() throws Exception {
        return start(new DefaultMQProducer(unique("producer")));
    }

    DefaultMQProducer start(DefaultMQProducer producer) throws Exception {
        producer.setNamesrvAddr(namesrv);
        producer.setInstanceName(unique("instance"));
        producer.start();
        later(producer::shutdown);
        return producer;
    }

    /**
     * A consumer that is not started yet; begins with the first message. 5.x does not send the version of its subscription after
     * a rebalance if another heartbeat is just under way, and gets no message until the next one: so that comes soon.
     */
    DefaultMQPushConsumer consumer(String group, String topic, String expression) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
        consumer.setNamesrvAddr(namesrv);
        consumer.setInstanceName(unique("instance"));
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setPollNameServerInterval(1000);
        consumer.setHeartbeatBrokerInterval(1000);
        if (topic != null) {
            consumer.subscribe(topic, expression);
        }
        later(consumer::shutdown);
        return consumer;
    }

    /** The enum moved to another package between 4.x and 5.x. */
    static void setMessageModel(Object consumer, String model) throws Exception {
        call(consumer, "setMessageModel", model);
    }

    /** A started consumer whose messages are collected. */
    Inbox collect(String group, String topic, String expression) throws Exception {
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = consumer(group, topic, expression);
        consumer.registerMessageListener(inbox);
        consumer.start();
        return inbox;
    }

    Inbox collect(String topic) throws Exception {
        return collect(unique("group"), topic, "*");
    }

    String createTopic(DefaultMQProducer producer, int queues) throws Exception {
        String topic = unique("topic");
        if (isVersion5()) {
            Method create = DefaultMQProducer.class.getMethod("createTopic", String.class, String.class, int.class, Map.class);
            create.invoke(producer, "TBW102", topic, queues, null);
        } else {
            DefaultMQProducer.class.getMethod("createTopic", String.class, String.class, int.class)
                .invoke(producer, "TBW102", topic, queues);
        }
        return topic;
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] body) {
        return new String(body, StandardCharsets.UTF_8);
    }

    static SendResult send(DefaultMQProducer producer, String topic, String tag, String body) throws Exception {
        SendResult result = producer.send(new Message(topic, tag, bytes(body)));
        equal(SendStatus.SEND_OK, result.getSendStatus(), "status of the send");
        return result;
    }

    static void sendMany(DefaultMQProducer producer, String topic, int count) throws Exception {
        for (int i = 0; i < count; i++) {
            send(producer, topic, "", "m" + i);
        }
    }

    /** "m0" to "m(count-1)". */
    static List<String> numbered(int count) {
        return java.util.stream.IntStream.range(0, count).mapToObj(i -> "m" + i)
            .collect(java.util.stream.Collectors.toList());
    }

    static void check(boolean isTrue, String what) {
        if (!isTrue) {
            throw new AssertionError(what);
        }
    }

    static void equal(Object expected, Object actual, String what) {
        check(Objects.equals(expected, actual), what + ": expected " + expected + ", got " + actual);
    }

    /** Waits until the value is there. */
    static void eventually(Object expected, Callable<?> actual, String what) throws Exception {
        long deadline = System.currentTimeMillis() + PATIENCE_MS;
        Object got = actual.call();
        while (!Objects.equals(expected, got) && System.currentTimeMillis() < deadline) {
            Thread.sleep(50);
            got = actual.call();
        }
        equal(expected, got, what);
    }

    /** Waits until the call succeeds. */
    static <T> T untilNoException(Callable<T> call) throws Exception {
        long deadline = System.currentTimeMillis() + PATIENCE_MS;
        while (true) {
            try {
                return call.call();
            } catch (Exception e) {
                if (System.currentTimeMillis() >= deadline) {
                    throw e;
                }
                Thread.sleep(100);
            }
        }
    }

    /** A setter that only one of the lines has, or whose parameter is an enum that moved; text becomes that enum. */
    @SuppressWarnings({"unchecked", "rawtypes"})
    static void call(Object object, String method, Object value) throws Exception {
        for (Method m : object.getClass().getMethods()) {
            if (m.getName().equals(method) && m.getParameterCount() == 1) {
                Class type = m.getParameterTypes()[0];
                try {
                    m.invoke(object, type.isEnum() ? Enum.valueOf(type, (String) value) : value);
                } catch (InvocationTargetException e) {
                    throw (Exception) e.getCause();
                }
                return;
            }
        }
        throw new NoSuchMethodException(object.getClass() + "." + method);
    }
}
