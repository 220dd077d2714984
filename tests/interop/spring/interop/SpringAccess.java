package interop;

import java.util.Collections;
import java.util.Map;
import org.apache.rocketmq.spring.core.RocketMQTemplate;

/** The starter's properties for access keys and TLS: other cases again, and who is refused. */
final class SpringAccess {
    private static final String[] AGAIN = {"normal", "batch", "ordered", "retry", "receive", "transaction-unknown-then-commit"};

    private SpringAccess() {
    }

    /** After all others: these run them again. */
    static void register(Map<String, Case> cases) {
        cases.put("access-keys", kit -> Runner.again(cases, () -> kit.as("service"), AGAIN));
        cases.put("access-keys-refused", SpringAccess::refused);
        cases.put("access-keys-permissions", SpringAccess::permissions);
        cases.put("tls", kit -> Runner.again(cases, kit::inTls, AGAIN));
        cases.put("tls-refused", SpringAccess::plainIsRefused);
    }

    private static RocketMQTemplate template(Kit kit) {
        return App.start(kit, Collections.emptyList()).template();
    }

    private static void refused(Kit kit) throws Exception {
        Kit service = kit.as("service");
        String topic = service.createTopic(service.producer(), 1);
        RocketMQTemplate template = template(service);
        Kit.untilNoException(() -> template.syncSend(topic, "m0"));
        RocketMQTemplate[] others = {template(kit.as("service", "another")), template(kit.as("unknown")), template(kit.as(null))};
        String[] whose = {"a wrong secret", "an unknown access key", "no signature"};
        for (int i = 0; i < others.length; i++) {
            RocketMQTemplate other = others[i];
            kit.expectRefused("a message with " + whose[i], () -> other.syncSend(topic, "refused"));
        }
        kit.as("service").collect(topic).expect(Kit.numbered(1));
    }

    private static void permissions(Kit kit) throws Exception {
        Kit owner = kit.as("owner");
        String topic = owner.createTopic(owner.producer(), 1);
        String hidden = kit.unique("hidden");
        Kit.createTopic(owner.producer(), hidden, 1);
        RocketMQTemplate writer = template(kit.as("writer"));
        RocketMQTemplate reader = template(kit.as("reader"));
        Kit.untilNoException(() -> writer.syncSend(topic, "m0"));
        kit.expectRefused("a message to a topic that is denied", () -> writer.syncSend(hidden, "refused"));
        kit.expectRefused("a message of one who may read", () -> reader.syncSend(topic, "refused"));
        kit.as("service").collect(topic).expect(Kit.numbered(1));
        App mayRead = App.listen(kit.as("reader"), topic, kit.unique("group"), Listeners.Plain.class);
        App mayNot = App.listen(kit.as("writer"), topic, kit.unique("group"), Listeners.Plain.class);
        mayRead.inbox().expect(Kit.numbered(1));
        Kit.equal(Collections.emptyList(), mayNot.inbox().bodies(), "messages of one who may write");
    }

    /** An application that does not speak TLS, at the server that takes nothing else. */
    private static void plainIsRefused(Kit kit) throws Exception {
        Kit secure = kit.inTls();
        String topic = secure.createTopic(secure.producer(), 1);
        RocketMQTemplate template = template(secure);
        Kit.untilNoException(() -> template.syncSend(topic, "m0"));
        RocketMQTemplate plain = template(kit.later(new Kit("tls-refused-plain", secure.namesrv, secure.broker)));
        kit.expectRefused("a plain connection", () -> plain.syncSend(topic, "refused"));
        secure.collect(topic).expect(Kit.numbered(1));
    }
}
