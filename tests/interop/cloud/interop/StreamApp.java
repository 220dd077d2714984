package interop;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.common.message.MessageExt;
import org.springframework.boot.Banner;
import org.springframework.boot.SpringBootConfiguration;
import org.springframework.boot.WebApplicationType;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.cloud.stream.function.StreamBridge;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.support.GenericApplicationContext;
import org.springframework.messaging.Message;

/**
 * A Spring Cloud Stream application: StreamBridge sends to the binding "output", the function "input" gets what comes. Its
 * properties are what a service has in application.yml.
 */
final class StreamApp implements AutoCloseable {
    private final Kit kit;
    private final Map<String, String> properties = new LinkedHashMap<>();
    private final List<Class<?>> sources = new ArrayList<>();
    private final Inbox inbox = new Inbox();
    private Consumer<MessageExt> handler = inbox::add;
    private String listenerName;
    private TransactionListener listener;
    private ConfigurableApplicationContext context;

    @SpringBootConfiguration
    @EnableAutoConfiguration
    static class Application {
    }

    /** The function of the application. */
    static class Input {
        @Bean
        Consumer<Message<String>> input(StreamApp app) {
            return message -> app.handler.accept(plain(message));
        }
    }

    StreamApp(Kit kit) {
        this.kit = kit;
        sources.add(Application.class);
        set("logging.level.root", "warn");
        set("spring.cloud.stream.rocketmq.binder.name-server", kit.namesrv);
        output("group", kit.unique("producer"));
        output("send-msg-timeout", "" + Kit.REQUEST_MS);
        output("use-tls", "" + kit.isInTls());
        input("use-tls", "" + kit.isInTls());
        if (kit.isSigned()) {
            set("spring.cloud.stream.rocketmq.binder.access-key", kit.accessKey());
            set("spring.cloud.stream.rocketmq.binder.secret-key", kit.secretKey());
        }
    }

    /** What the binder made of a message, in the form that the cases of the other Java clients look at. */
    private static MessageExt plain(Message<String> message) {
        MessageExt plain = new MessageExt();
        plain.setBody(Kit.bytes(message.getPayload()));
        message.getHeaders().forEach((name, value) -> {
            if (value instanceof String && !((String) value).isEmpty() && !name.startsWith("ROCKET_")) {
                plain.putUserProperty(name, (String) value);
            }
        });
        plain.setTopic((String) message.getHeaders().get("ROCKET_MQ_TOPIC"));
        plain.setTags((String) message.getHeaders().get("ROCKET_TAGS"));
        plain.setKeys((String) message.getHeaders().get("ROCKET_KEYS"));
        plain.setMsgId((String) message.getHeaders().get("ROCKET_MQ_MESSAGE_ID"));
        plain.setQueueId((Integer) message.getHeaders().get("ROCKET_MQ_QUEUE_ID"));
        plain.setTransactionId((String) message.getHeaders().get("ROCKET_MQ_TRANSACTION_ID"));
        return plain;
    }

    /** How a text travels: with this binder everything is JSON. */
    static String json(String text) {
        return '"' + text + '"';
    }

    StreamApp set(String property, String value) {
        properties.put(property, value);
        return this;
    }

    /** A property of the binder for what is sent. */
    StreamApp output(String property, String value) {
        return set("spring.cloud.stream.rocketmq.bindings.output.producer." + property, value);
    }

    /** A property of the binder for what comes. */
    StreamApp input(String property, String value) {
        return set("spring.cloud.stream.rocketmq.bindings.input-in-0.consumer." + property, value);
    }

    StreamApp sendTo(String topic) {
        return set("spring.cloud.stream.bindings.output.destination", topic);
    }

    /** Begins with the first message; the heartbeat comes every second (the reason is in Kit.consumer). */
    StreamApp consume(String topic, String group) {
        sources.add(Input.class);
        input("consume-from-where", "CONSUME_FROM_FIRST_OFFSET");
        input("heartbeat-broker-interval", "1000");
        input("push.max-reconsume-times", "16"); /* newer binders have 0 */
        set("spring.cloud.function.definition", "input");
        set("spring.cloud.stream.bindings.input-in-0.destination", topic);
        set("spring.cloud.stream.bindings.input-in-0.consumer.max-attempts", "1"); /* then it is RocketMQ's retry */
        return set("spring.cloud.stream.bindings.input-in-0.group", group);
    }

    /** Handles what comes; without one it is collected. */
    StreamApp handle(Consumer<MessageExt> handler) {
        this.handler = handler;
        return this;
    }

    /** The binder keeps listeners by their names, for all applications of a process. */
    StreamApp decide(TransactionListener listener) {
        this.listener = listener;
        this.listenerName = kit.unique("listener");
        output("producer-type", "Trans");
        return output("transaction-listener", listenerName);
    }

    /** One at a time: a starting application writes and reads the properties of the process. */
    StreamApp start() {
        synchronized (StreamApp.class) {
            List<String> arguments = new ArrayList<>();
            properties.forEach((name, value) -> arguments.add("--" + name + "=" + value));
            context = new SpringApplicationBuilder(sources.toArray(new Class<?>[0])).web(WebApplicationType.NONE)
                .bannerMode(Banner.Mode.OFF).registerShutdownHook(false).initializers(c -> {
                    GenericApplicationContext beans = (GenericApplicationContext) c;
                    beans.registerBean("app", StreamApp.class, () -> this, d -> d.setDestroyMethodName(""));
                    if (listener != null) {
                        beans.registerBean(listenerName, TransactionListener.class, () -> listener);
                    }
                }).run(arguments.toArray(new String[0]));
        }
        return kit.later(this);
    }

    void send(Object message) {
        Kit.check(bean(StreamBridge.class).send("output", message), "the bridge sent the message");
    }

    void sendMany(String what, int count) {
        for (int i = 0; i < count; i++) {
            send(what + i);
        }
    }

    <T> T bean(Class<T> type) {
        return context.getBean(type);
    }

    Inbox inbox() {
        return inbox;
    }

    @Override
    public void close() {
        context.close();
    }
}
