package interop;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.spring.core.RocketMQTemplate;
import org.apache.rocketmq.spring.support.DefaultRocketMQListenerContainer;
import org.springframework.boot.Banner;
import org.springframework.boot.SpringBootConfiguration;
import org.springframework.boot.WebApplicationType;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.context.ConfigurableApplicationContext;

/** A Spring Boot application with the listeners of a case; its properties are what a service has in application.yml. */
final class App implements AutoCloseable {
    private final ConfigurableApplicationContext context;

    @SpringBootConfiguration
    @EnableAutoConfiguration
    static class Application {
    }

    private App(ConfigurableApplicationContext context) {
        this.context = context;
    }

    /**
     * properties: "name=value". Without rocketmq.producer.group among them it gets one of its own. One at a time: a starting
     * application writes and reads the properties of the process.
     */
    static synchronized App start(Kit kit, List<String> properties, Class<?>... beans) {
        List<Class<?>> sources = new ArrayList<>(Arrays.asList(beans));
        sources.add(Application.class);
        List<String> arguments = new ArrayList<>();
        arguments.add("--rocketmq.name-server=" + kit.namesrv);
        arguments.add("--logging.level.root=warn");
        arguments.add("--rocketmq.producer.send-message-timeout=" + Kit.REQUEST_MS);
        if (properties.stream().noneMatch(p -> p.startsWith("rocketmq.producer.group="))) {
            arguments.add("--rocketmq.producer.group=" + kit.unique("producer"));
        }
        for (String one : Arrays.asList("producer", "consumer", "pull-consumer")) {
            if (kit.isSigned()) {
                arguments.add("--rocketmq." + one + ".access-key=" + kit.accessKey());
                arguments.add("--rocketmq." + one + ".secret-key=" + kit.secretKey());
            }
            arguments.add("--rocketmq." + one + ".tls-enable=" + kit.isInTls());
        }
        properties.forEach(p -> arguments.add("--" + p));
        return kit.later(new App(new SpringApplicationBuilder(sources.toArray(new Class<?>[0])).web(WebApplicationType.NONE)
            .bannerMode(Banner.Mode.OFF).registerShutdownHook(false).run(arguments.toArray(new String[0]))));
    }

    /** With a listener for a topic, in a group. */
    static App listen(Kit kit, String topic, String group, Class<?> listener) {
        return start(kit, Arrays.asList("topic=" + topic, "group=" + group), listener);
    }

    RocketMQTemplate template() {
        return context.getBean(RocketMQTemplate.class);
    }

    <T> T bean(Class<T> type) {
        return context.getBean(type);
    }

    /** What the listener of this application got. */
    Inbox inbox() {
        return bean(Listeners.Collecting.class).inbox;
    }

    /** How many queues of a topic its listener consumes. */
    int queues(String topic) {
        DefaultMQPushConsumer consumer = bean(DefaultRocketMQListenerContainer.class).getConsumer();
        return (int) consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().keySet().stream()
            .filter(q -> q.getTopic().equals(topic)).count();
    }

    @Override
    public void close() {
        context.close();
    }
}
