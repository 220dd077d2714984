package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

func sqlFilter(k *Kit) {
	topic := k.createTopic(4)
	p := k.producer()
	for i := 0; i < 20; i++ {
		m := primitive.NewMessage(topic, []byte(fmt.Sprintf("m%d", i)))
		m.WithProperty("price", fmt.Sprint(i))
		m.WithProperty("colour", []string{"red", "blue"}[i%2])
		_, err := p.SendSync(context.Background(), m)
		noError(err, "send")
	}
	inbox := &Inbox{}
	k.consume(k.unique("group"), topic, consumer.MessageSelector{Type: consumer.SQL92,
		Expression: "price BETWEEN 4 AND 9 AND colour = 'red'"}, inbox.listener())
	inbox.expect([]string{"m4", "m6", "m8"})
}

// A pull that is answered when a message comes: one that is not would be held for 20 seconds.
func longPolling(k *Kit) {
	topic := k.createTopic(1)
	p := k.producer()
	inbox := k.collect(topic)
	k.send(p, topic, "first")
	inbox.await(1)
	for i := 0; i < 5; i++ {
		sent := time.Now()
		k.send(p, topic, fmt.Sprintf("m%d", i))
		inbox.await(i + 2)
		check(time.Since(sent) < 10*time.Second, "a message took %v", time.Since(sent))
	}
}

// Where the broker says that a new group's offset is 0, as it does while the queue has its first message, the client begins there.
func fromLastOffset(k *Kit) {
	topic := k.createTopic(1)
	p := k.producer()
	k.send(p, topic, "before")
	inbox := &Inbox{}
	k.consume(k.unique("group"), topic, consumer.MessageSelector{}, inbox.listener(),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromLastOffset))
	eventually(true, func() interface{} {
		k.send(p, topic, "after")
		time.Sleep(200 * time.Millisecond)
		for _, body := range inbox.bodies() {
			if body == "after" {
				return true
			}
		}
		return false
	}, "later messages come")
}

func orderlySuspend(k *Kit) {
	topic := k.createTopic(1)
	k.sendMany(k.producer(), topic, 3)
	inbox := &Inbox{}
	k.consume(k.unique("group"), topic, consumer.MessageSelector{}, func(_ context.Context, ms ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		inbox.add(ms[0])
		if len(inbox.all()) == 2 {
			return consumer.SuspendCurrentQueueAMoment, nil
		}
		return consumer.ConsumeSuccess, nil
	}, consumer.WithConsumerOrder(true), consumer.WithMaxReconsumeTimes(16), consumer.WithSuspendCurrentQueueTimeMillis(100*time.Millisecond))
	inbox.await(4)
	equal([]string{"m0", "m1", "m1", "m2"}, inbox.bodies(), "order")
}

// Queues change hands when their member has gone: it gives the locks back. (One that stays keeps those of queues that it loses to
// newcomers for a minute.) Nothing is lost, and nothing comes after what is later in its queue.
func orderlyTakeover(k *Kit) {
	topic := k.createTopic(4)
	group := k.unique("group")
	p := k.producer()
	one, two := &Inbox{}, &Inbox{}
	first := k.consume(group, topic, consumer.MessageSelector{}, one.listener(), consumer.WithConsumerOrder(true))
	k.sendMany(p, topic, 20)
	one.expect(numbered(20))
	noError(first.Shutdown(), "shutdown of the first")
	k.consume(group, topic, consumer.MessageSelector{}, two.listener(), consumer.WithConsumerOrder(true))
	for i := 0; i < 40; i++ {
		k.send(p, topic, fmt.Sprintf("after%d", i))
	}
	eventually(40, func() interface{} { return strings.Count(strings.Join(two.bodies(), " "), "after") }, "messages of the second")
	next := inOrder(one, map[int]int64{})
	inOrder(two, next)
}

// Each queue without a gap from where it was left, or from before: the offset that a member sends when it goes may be lost. What
// comes next in each.
func inOrder(inbox *Inbox, left map[int]int64) map[int]int64 {
	next := map[int]int64{}
	for _, m := range inbox.all() {
		queue := m.Queue.QueueId
		if _, begun := next[queue]; !begun {
			check(m.QueueOffset <= left[queue], "queue %d goes on at %d, and was left at %d", queue, m.QueueOffset, left[queue])
			next[queue] = m.QueueOffset
		}
		equal(next[queue], m.QueueOffset, fmt.Sprintf("offset in queue %d", queue))
		next[queue]++
	}
	return next
}

// The client is told by the broker, and looks at the new offsets ten seconds later.
func resetOffset(k *Kit) {
	topic := k.createTopic(2)
	group := k.unique("group")
	p := k.producer()
	k.sendMany(p, topic, 5)
	inbox := &Inbox{}
	k.consume(group, topic, consumer.MessageSelector{}, inbox.listener())
	inbox.expect(numbered(5))
	code := request(k.broker, 222, map[string]interface{}{"topic": topic, "group": group, "timestamp": 0, "isForce": true, "offset": -1})
	equal(0, code, "answer of the broker")
	eventually(10, func() interface{} { return len(inbox.all()) }, "messages")
	k.send(p, topic, "later")
	inbox.await(11)
	times := map[string]int{}
	for _, body := range inbox.bodies() {
		times[body]++
	}
	equal(map[string]int{"m0": 2, "m1": 2, "m2": 2, "m3": 2, "m4": 2, "later": 1}, times, "how often each came")
}

// request sends what an administrator's tool would, which the client has no method for; returns the answer's code.
func request(address string, code int, fields map[string]interface{}) int {
	texts := map[string]string{}
	for name, value := range fields {
		texts[name] = fmt.Sprint(value)
	}
	header, err := json.Marshal(map[string]interface{}{"code": code, "opaque": 1, "flag": 0, "version": 409, "language": "JAVA", "extFields": texts})
	noError(err, "header")
	connection, err := net.Dial("tcp", address)
	noError(err, "connection")
	defer connection.Close()
	frame := binary.BigEndian.AppendUint32(nil, uint32(4+len(header)))
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(header)))
	_, err = connection.Write(append(frame, header...))
	noError(err, "request")
	var lengths [2]uint32
	in := bufio.NewReader(connection)
	noError(binary.Read(in, binary.BigEndian, &lengths), "answer")
	answer := make([]byte, lengths[1])
	_, err = io.ReadFull(in, answer)
	noError(err, "answer")
	var decoded struct{ Code int }
	noError(json.Unmarshal(answer, &decoded), "answer")
	return decoded.Code
}
