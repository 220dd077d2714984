package interop;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.regex.Pattern;
import org.apache.rocketmq.acl.common.AclClientRPCHook;
import org.apache.rocketmq.acl.common.SessionCredentials;
import org.apache.rocketmq.client.AccessChannel;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragely;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.MQVersion;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.remoting.RPCHook;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/** What every case needs: names of its own, clients that are shut down at its end, and checks that say what was wrong. */
final class Kit implements AutoCloseable {
    static final long PATIENCE_MS = 60_000;
    static final int REQUEST_MS = 15_000; /* for one request, where the client lets us say it: its 3 seconds are little on a busy machine */
    private static final AtomicInteger COUNT = new AtomicInteger();

    final String namesrv;
    final String broker;
    private final String name;
    private final String user; /* whose keys sign the requests; null: they are not signed */
    private final String secret;
    private final RPCHook hook;
    private final boolean isInTls;
    private final Deque<AutoCloseable> open = new ArrayDeque<>();
    private boolean isQuiet;
    private boolean isOfCloud; /* like a client of Alibaba Cloud's service */

    Kit(String name, String namesrv, String broker) {
        this(name, new String[] {namesrv, broker}, null, null, false);
    }

    private Kit(String name, String[] servers, String user, String secret, boolean isInTls) {
        this.name = name;
        this.namesrv = servers[0];
        this.broker = servers[1];
        this.user = user;
        this.secret = secret;
        this.hook = user == null ? null : new AclClientRPCHook(new SessionCredentials(accessKey(), secret)) {
            @Override
            public void doBeforeRequest(String address, RemotingCommand request) {
                if (isOfCloud) {
                    request.addExtField("OnsChannel", AccessChannel.CLOUD.name()); /* and it is signed */
                }
                super.doBeforeRequest(address, request);
            }
        };
        this.isInTls = isInTls;
    }

    private static String[] servers(String variable) {
        String servers = System.getenv(variable);
        check(servers != null && !servers.isEmpty(), "there is no server for this case: " + variable);
        return servers.split(" ");
    }

    /** The same at the server that wants access keys, for a user of users.conf (null: nothing is signed). */
    Kit as(String user) {
        return as(user, user + "-secret");
    }

    Kit as(String user, String secret) {
        return later(new Kit(name, servers("INTEROP_KEYS"), user, secret, false));
    }

    /** The same user as a client of Alibaba Cloud's service: every request has one more field, and traces go to another topic. */
    Kit ofCloud() {
        isOfCloud = true;
        return this;
    }

    /** The same at the server that takes nothing but TLS. */
    Kit inTls() {
        return later(new Kit(name, servers("INTEROP_TLS"), null, null, true));
    }

    boolean isSigned() {
        return user != null;
    }

    String accessKey() {
        return user + "-access";
    }

    String secretKey() {
        return secret;
    }

    boolean isInTls() {
        return isInTls;
    }

    RPCHook hook() {
        return hook;
    }

    /** A client of this kit that is not started: its servers, a name of its own, TLS. */
    <T extends ClientConfig> T prepare(T client) {
        client.setNamesrvAddr(namesrv);
        client.setInstanceName(unique("instance"));
        client.setMqClientApiTimeout(REQUEST_MS);
        if (isInTls) {
            client.setUseTLS(true);
        }
        if (isOfCloud) {
            client.setAccessChannel(AccessChannel.CLOUD);
        }
        return client;
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
        return start(new DefaultMQProducer(unique("producer"), hook));
    }

    DefaultMQProducer start(DefaultMQProducer producer) throws Exception {
        producer.setSendMsgTimeout(REQUEST_MS);
        prepare(producer).start();
        later(producer::shutdown);
        return producer;
    }

    /**
     * A consumer that is not started yet; begins with the first message. 5.x does not send the version of its subscription after
     * a rebalance if another heartbeat is just under way, and gets no message until the next one: so that comes soon.
     */
    DefaultMQPushConsumer consumer(String group, String topic, String expression) throws Exception {
        DefaultMQPushConsumer consumer = prepare(new DefaultMQPushConsumer(group, hook, new AllocateMessageQueueAveragely()));
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setPollNameServerInterval(1000);
        consumer.setHeartbeatBrokerInterval(1000);
        if (topic != null) {
            consumer.subscribe(topic, expression);
        }
        later(consumer::shutdown);
        return consumer;
    }

    DefaultMQPullConsumer pullConsumer(String group) {
        DefaultMQPullConsumer consumer = prepare(new DefaultMQPullConsumer(group, hook));
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

    /** Made by the owner for users of access keys, who are no administrators. */
    String createTopic(DefaultMQProducer producer, int queues) throws Exception {
        String topic = unique("topic");
        DefaultMQProducer owner = user == null || user.equals("owner") ? producer : as("owner").producer();
        untilNoException(() -> {
            createTopic(owner, topic, queues);
            return null;
        });
        return topic;
    }

    static void createTopic(DefaultMQProducer producer, String topic, int queues) throws Exception {
        try {
            createTopicByReflection(producer, topic, queues);
        } catch (InvocationTargetException e) {
            throw (Exception) e.getCause();
        }
    }

    private static void createTopicByReflection(DefaultMQProducer producer, String topic, int queues) throws Exception {
        if (isVersion5()) {
            Method create = DefaultMQProducer.class.getMethod("createTopic", String.class, String.class, int.class, Map.class);
            create.invoke(producer, "TBW102", topic, queues, null);
        } else {
            DefaultMQProducer.class.getMethod("createTopic", String.class, String.class, int.class)
                .invoke(producer, "TBW102", topic, queues);
        }
    }

    /** Sets the offsets of a group to the first messages, as an administrator's tool does it; returns what the broker says they are now. */
    Map<?, ?> resetOffsets(DefaultMQProducer producer, String topic, String group) throws Exception {
        return producer.getDefaultMQProducerImpl().getmQClientFactory().getMQClientAPIImpl()
            .invokeBrokerToResetOffset(broker, topic, group, 0, true, 5000);
    }

    /** Notes nothing: the facts are those of another case, which notes them. */
    Kit quietly() {
        isQuiet = true;
        return this;
    }

    /** A fact that each server should show alike, for compare.py; names of this case's own become what they are names of. */
    void note(String what, Object value) {
        if (isQuiet) {
            return;
        }
        String text = String.valueOf(value).replaceAll(Pattern.quote(name) + "-([a-z]+)-\\d+", "$1").replaceAll("\\s+", " ");
        System.out.println("note " + name + " " + what.replace(':', ';') + ": " + text);
    }

    /**
     * What a server makes of a message: its fields and properties, without what is another one each time, and without what
     * RocketMQ forgets to take out of most of them (`normal` and `delayed` note that).
     */
    void note(String what, MessageExt message) {
        note(what + " topic", message.getTopic());
        note(what + " flag", message.getFlag());
        note(what + " system flag", message.getSysFlag());
        note(what + " reconsume times", message.getReconsumeTimes());
        note(what + " has an offset of a half", message.getPreparedTransactionOffset() != 0);
        message.getProperties().forEach((property, value) -> {
            if (!Arrays.asList("WAIT", "REAL_TOPIC", "REAL_QID").contains(property)) {
                note(what + " property " + property, property.equals("POP_CK") ? "a handle" : value.matches("[0-9A-F]{32,}") ? "an id"
                    : value.matches("\\d{13}") ? "a time" : value.matches("[0-9a-f-]{36}") ? "a UUID" : value);
            }
        });
    }

    /** How a call was refused: the innermost exception that has a code, or that which came. */
    void note(String what, Exception refusal) throws Exception {
        String text = refusal.getClass().getSimpleName() + " without a code";
        for (Throwable e = refusal; e != null; e = e.getCause()) {
            try {
                text = e.getClass().getSimpleName() + " " + e.getClass().getMethod("getResponseCode").invoke(e);
            } catch (NoSuchMethodException none) {
                /* its cause may have one */
            }
        }
        note(what, (Object) text);
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

    /** Any exception that a server's no ends in; it is noted. */
    void expectRefused(String what, Callable<?> call) throws Exception {
        try {
            call.call();
        } catch (MQClientException | MQBrokerException | RuntimeException e) {
            note(what, e);
            return;
        }
        throw new AssertionError(what + " was not refused");
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
