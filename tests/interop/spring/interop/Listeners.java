package interop;

import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.spring.annotation.ConsumeMode;
import org.apache.rocketmq.spring.annotation.MessageModel;
import org.apache.rocketmq.spring.annotation.RocketMQMessageListener;
import org.apache.rocketmq.spring.annotation.RocketMQTransactionListener;
import org.apache.rocketmq.spring.annotation.SelectorType;
import org.apache.rocketmq.spring.core.RocketMQListener;
import org.apache.rocketmq.spring.core.RocketMQLocalTransactionListener;
import org.apache.rocketmq.spring.core.RocketMQLocalTransactionState;
import org.apache.rocketmq.spring.core.RocketMQPushConsumerLifecycleListener;
import org.apache.rocketmq.spring.core.RocketMQReplyListener;
import org.springframework.messaging.Message;

/** The listeners of the applications, as a service writes them; topic, group and selector are properties. */
final class Listeners {
    static final String TLS = "${rocketmq.consumer.tls-enable:false}";

    private Listeners() {
    }

    /**
     * Collects what comes. Begins with the first message; looks for the route of the retry topic, and sends a heartbeat, every
     * second (the reason is in Kit.consumer).
     */
    abstract static class Collecting implements RocketMQListener<MessageExt>, RocketMQPushConsumerLifecycleListener {
        final Inbox inbox = new Inbox();

        @Override
        public void onMessage(MessageExt message) {
            inbox.add(message);
        }

        @Override
        public void prepareStart(DefaultMQPushConsumer consumer) {
            consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
            consumer.setPollNameServerInterval(1000);
            consumer.setHeartbeatBrokerInterval(1000);
        }
    }

    @RocketMQMessageListener(topic = "${topic}", consumerGroup = "${group}", tlsEnable = TLS, selectorExpression = "${tags:*}")
    static class Plain extends Collecting {
    }

    @RocketMQMessageListener(topic = "${topic}", consumerGroup = "${group}", tlsEnable = TLS)
    static class FromLast extends Collecting {
        @Override
        public void prepareStart(DefaultMQPushConsumer consumer) {
            super.prepareStart(consumer);
            consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET);
        }
    }

    @RocketMQMessageListener(topic = "${topic}", consumerGroup = "${group}", tlsEnable = TLS, enableMsgTrace = true)
    static class Traced extends Collecting {
    }

    @RocketMQMessageListener(topic = "${topic}", consumerGroup = "${group}", tlsEnable = TLS, selectorType = SelectorType.SQL92,
        selectorExpression = "price BETWEEN 4 AND 9 AND colour = 'red'")
    static class Sql extends Collecting {
    }

    @RocketMQMessageListener(topic = "${topic}", consumerGroup = "${group}", tlsEnable = TLS, messageModel = MessageModel.BROADCASTING)
    static class Broadcast extends Collecting {
    }

    @RocketMQMessageListener(topic = "${topic}", consumerGroup = "${group}", tlsEnable = TLS, consumeMode = ConsumeMode.ORDERLY)
    static class Orderly extends Collecting {
    }

    /** Takes the second message only at its second time. */
    @RocketMQMessageListener(topic = "${topic}", consumerGroup = "${group}", tlsEnable = TLS, consumeMode = ConsumeMode.ORDERLY,
        suspendCurrentQueueTimeMillis = 100)
    static class Suspending extends Collecting {
        @Override
        public void onMessage(MessageExt message) {
            super.onMessage(message);
            if (inbox.messages().size() == 2) {
                throw new IllegalStateException("not yet");
            }
        }
    }

    /** Fails the first two times. */
    @RocketMQMessageListener(topic = "${topic}", consumerGroup = "${group}", tlsEnable = TLS, delayLevelWhenNextConsume = 1)
    static class Retrying extends Collecting {
        @Override
        public void onMessage(MessageExt message) {
            super.onMessage(message);
            if (message.getReconsumeTimes() < 2) {
                throw new IllegalStateException("not yet");
            }
        }
    }

    /** Fails always; gives up after the second time. */
    @RocketMQMessageListener(topic = "${topic}", consumerGroup = "${group}", tlsEnable = TLS, delayLevelWhenNextConsume = 1, maxReconsumeTimes = 1)
    static class Failing extends Collecting {
        @Override
        public void onMessage(MessageExt message) {
            super.onMessage(message);
            throw new IllegalStateException("never");
        }
    }

    /** What an order service sends: goes through the starter's JSON. */
    public static class Order {
        public String id;
        public int amount;
    }

    @RocketMQMessageListener(topic = "${topic}", consumerGroup = "${group}", tlsEnable = TLS)
    static class Orders implements RocketMQListener<Order> {
        final List<Order> orders = new CopyOnWriteArrayList<>();

        @Override
        public void onMessage(Order order) {
            orders.add(order);
        }
    }

    @RocketMQMessageListener(topic = "${topic}", consumerGroup = "${group}", tlsEnable = TLS, selectorExpression = "request")
    static class Replying implements RocketMQReplyListener<String, String> {
        @Override
        public String onMessage(String question) {
            return "re: " + question;
        }
    }

    /** Decides as the case says; remembers what it was asked. */
    @RocketMQTransactionListener
    static class Deciding implements RocketMQLocalTransactionListener {
        volatile RocketMQLocalTransactionState local = RocketMQLocalTransactionState.UNKNOWN;
        volatile RocketMQLocalTransactionState[] answers = {RocketMQLocalTransactionState.UNKNOWN};
        volatile Object argument;
        final List<Message<?>> asked = new CopyOnWriteArrayList<>();

        @Override
        public RocketMQLocalTransactionState executeLocalTransaction(Message message, Object argument) {
            this.argument = argument;
            return local;
        }

        @Override
        public synchronized RocketMQLocalTransactionState checkLocalTransaction(Message message) {
            asked.add(message);
            return answers[Math.min(asked.size(), answers.length) - 1];
        }
    }
}
