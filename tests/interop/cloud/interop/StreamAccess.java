package interop;

import java.util.Collections;
import java.util.Map;

/** The binder's properties for access keys and TLS: other cases again, and who is refused. */
final class StreamAccess {
    private static final String[] AGAIN = {"normal", "ordered", "dead-letter", "transaction-unknown-then-commit"};

    private StreamAccess() {
    }

    /** After all others: these run them again. */
    static void register(Map<String, Case> cases) {
        cases.put("access-keys", kit -> Runner.again(cases, () -> kit.as("service"), AGAIN));
        cases.put("access-keys-refused", StreamAccess::refused);
        cases.put("access-keys-permissions", StreamAccess::permissions);
        cases.put("tls", kit -> Runner.again(cases, kit::inTls, AGAIN));
        cases.put("tls-refused", StreamAccess::plainIsRefused);
    }

    private static StreamApp app(Kit kit, String topic) {
        return new StreamApp(kit).sendTo(topic).start();
    }

    private static void expectRefused(Kit kit, String what, StreamApp app) throws Exception {
        kit.expectRefused(what, () -> {
            app.send("refused");
            return null;
        });
    }

    /** What one gets who may. */
    private static void expectOnly(Kit kit, String topic, String body) throws Exception {
        StreamApp app = new StreamApp(kit).sendTo(topic).consume(topic, kit.unique("group")).start();
        app.inbox().expect(Collections.singletonList(body));
    }

    private static void refused(Kit kit) throws Exception {
        Kit service = kit.as("service");
        String topic = service.createTopic(service.producer(), 1);
        StreamApp app = app(service, topic);
        app.send("m0");
        expectRefused(kit, "a message with a wrong secret", app(kit.as("service", "another"), topic));
        expectRefused(kit, "a message with an unknown access key", app(kit.as("unknown"), topic));
        expectRefused(kit, "a message with no signature", app(kit.as(null), topic));
        expectOnly(kit.as("service"), topic, "m0");
    }

    private static void permissions(Kit kit) throws Exception {
        Kit owner = kit.as("owner");
        String topic = owner.createTopic(owner.producer(), 1);
        String hidden = kit.unique("hidden");
        Kit.createTopic(owner.producer(), hidden, 1);
        app(kit.as("writer"), topic).send("m0");
        expectRefused(kit, "a message to a topic that is denied", app(kit.as("writer"), hidden));
        expectRefused(kit, "a message of one who may read", app(kit.as("reader"), topic));
        StreamApp mayNot = new StreamApp(kit.as("writer")).sendTo(topic).consume(topic, kit.unique("group")).start();
        expectOnly(kit.as("reader"), topic, "m0");
        Kit.equal(Collections.emptyList(), mayNot.inbox().bodies(), "messages of one who may write");
    }

    /** An application that does not speak TLS, at the server that takes nothing else. */
    private static void plainIsRefused(Kit kit) throws Exception {
        Kit secure = kit.inTls();
        String topic = secure.createTopic(secure.producer(), 1);
        app(secure, topic).send("m0");
        expectRefused(kit, "a plain connection", app(kit.later(new Kit("tls-refused-plain", secure.namesrv, secure.broker)), topic));
        expectOnly(secure, topic, "m0");
    }
}
