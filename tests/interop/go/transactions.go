package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

// What becomes of message i is its number modulo 4, as in Transactions.java.
type decisions struct {
	writer      *lines
	saysNothing bool
}

func (d *decisions) told(what string, index int, id string, state primitive.LocalTransactionState) {
	names := map[primitive.LocalTransactionState]string{
		primitive.CommitMessageState:   "COMMIT_MESSAGE",
		primitive.RollbackMessageState: "ROLLBACK_MESSAGE",
		primitive.UnknowState:          "UNKNOW",
	}
	d.writer.write(map[string]interface{}{"what": what, "index": index, "msgId": id, "state": names[state]})
}

func (d *decisions) ExecuteLocalTransaction(message *primitive.Message) primitive.LocalTransactionState {
	index := number(message.GetProperty("index"))
	switch {
	case index < 0 || (!d.saysNothing && index%4 == 1):
		return primitive.RollbackMessageState
	case d.saysNothing || index%4 > 1:
		return primitive.UnknowState
	default:
		return primitive.CommitMessageState
	}
}

func (d *decisions) CheckLocalTransaction(message *primitive.MessageExt) primitive.LocalTransactionState {
	index := number(message.GetProperty("index"))
	if !strings.HasPrefix(string(message.Body), fmt.Sprintf("message %d ", index)) {
		panic(string(message.Body))
	}
	state := primitive.RollbackMessageState
	if index%2 == 0 {
		state = primitive.CommitMessageState
	}
	d.told("asked", index, message.MsgId, state)
	return state
}

func transactions(what string, args []string) {
	d := &decisions{open(args[len(args)-1]), what == "leave"}
	p, err := rocketmq.NewTransactionProducer(d,
		producer.WithGroupName("interop-go-transactions"),
		producer.WithInstanceName(instance(what)),
		producer.WithNsResolver(primitive.NewPassthroughResolver([]string{args[0]})),
		producer.WithSendMsgTimeout(10*time.Second),
	)
	must(err)
	must(p.Start())
	count := 0
	if what == "answer" {
		// Its heartbeat, a second after the start, goes to the brokers of the topics that it has sent to.
		_, err := p.SendMessageInTransaction(background, message(args[1]+"Other", -1))
		must(err)
	} else {
		count = number(args[2])
	}
	for i := 0; i < count; i++ {
		result, err := p.SendMessageInTransaction(background, message(args[1], i))
		must(err)
		d.told("sent", i, result.MsgID, result.State)
	}
	if what == "leave" {
		os.Exit(0)
	}
	for e := newEnding(number(args[len(args)-2]), args[len(args)-1]); !e.isDue(); {
		time.Sleep(20 * time.Millisecond)
	}
	must(p.Shutdown())
}
