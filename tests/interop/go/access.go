package main

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

// as is the same kit at the server that wants access keys, for a user of users.conf.
func (k *Kit) as(user string) *Kit {
	servers := strings.Fields(os.Getenv("INTEROP_KEYS"))
	check(len(servers) == 2, "there is no server that wants access keys")
	other := &Kit{name: k.name, namesrv: servers[0], broker: servers[1], user: user, secret: user + "-secret"}
	k.later(other.close)
	return other
}

func (k *Kit) credentials() primitive.Credentials {
	return primitive.Credentials{AccessKey: k.user + "-access", SecretKey: k.secret}
}

// All that a service does, signed: every kind of message, retry, order, a decision that the broker asks for, offsets.
func accessKeys(k *Kit) {
	topic, ordered := k.as("owner").createTopic(4), k.as("owner").createTopic(1)
	service := k.as("service")
	group := service.unique("group")
	p := service.producer()
	k.sendMany(p, topic, 10)
	_, err := p.SendSync(context.Background(), primitive.NewMessage(topic, []byte("m10")), primitive.NewMessage(topic, []byte("m11")))
	noError(err, "batch")
	noError(p.SendOneWay(context.Background(), primitive.NewMessage(topic, []byte("m12"))), "one-way")
	l := &txnListener{local: primitive.UnknowState, checked: primitive.CommitMessageState}
	service.sendTxn(service.txnProducer(service.unique("producer"), l), topic, "m13")
	inbox := &Inbox{}
	first := service.consume(group, topic, consumer.MessageSelector{}, func(ctx context.Context, ms ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		inbox.add(ms[0])
		if c, ok := primitive.GetConcurrentlyCtx(ctx); ok {
			c.DelayLevelWhenNextConsume = 1
		}
		if string(ms[0].Body) == "m3" && ms[0].ReconsumeTimes == 0 {
			return consumer.ConsumeRetryLater, nil
		}
		return consumer.ConsumeSuccess, nil
	})
	expected := numbered(14)
	inbox.expect(append(expected[:8:8], expected[7:]...)) // m3 twice
	noError(first.Shutdown(), "shutdown")
	k.send(p, topic, "later")
	again := &Inbox{}
	service.consume(group, topic, consumer.MessageSelector{}, again.listener())
	again.expect([]string{"later"})
	k.sendMany(p, ordered, 5)
	inOrder := &Inbox{}
	service.consume(service.unique("group"), ordered, consumer.MessageSelector{}, inOrder.listener(), consumer.WithConsumerOrder(true))
	inOrder.await(5)
	equal(numbered(5), inOrder.bodies(), "order")
}

func accessKeysRefused(k *Kit) {
	topic := k.as("owner").createTopic(1)
	k.send(k.as("service").producer(), topic, "m0")
	wrong := k.as("service")
	wrong.secret = "another"
	unsigned := k.as("")
	for _, one := range []*Kit{wrong, k.as("unknown"), unsigned} {
		_, err := one.producer().SendSync(context.Background(), primitive.NewMessage(topic, []byte("refused")))
		check(err != nil, "a message of '%s' was taken", one.user)
	}
	k.as("service").collect(topic).expect([]string{"m0"})
}

func accessKeysPermissions(k *Kit) {
	owner := k.as("owner")
	topic, hidden := owner.createTopic(1), owner.unique("hidden")
	noError(owner.tryToCreateTopic(hidden, 1), "create topic")
	writer, reader := k.as("writer"), k.as("reader")
	p := writer.producer()
	k.send(p, topic, "m0")
	_, err := p.SendSync(context.Background(), primitive.NewMessage(hidden, []byte("refused")))
	check(err != nil, "a message to a topic that is denied was taken")
	_, err = reader.producer().SendSync(context.Background(), primitive.NewMessage(topic, []byte("refused")))
	check(err != nil, "a message of who may only read was taken")
	k.send(k.as("service").producer(), hidden, "secret")
	inboxes := []*Inbox{{}, {}}
	writer.consume(writer.unique("group"), topic, consumer.MessageSelector{}, inboxes[0].listener())
	reader.consume(reader.unique("group"), hidden, consumer.MessageSelector{}, inboxes[1].listener())
	reader.collect(topic).expect([]string{"m0"})
	k.as("service").collect(hidden).expect([]string{"secret"})
	time.Sleep(time.Second)
	for _, inbox := range inboxes {
		equal([]string(nil), inbox.bodies(), "messages of one who may not")
	}
}
