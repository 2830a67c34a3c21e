// A NATS client that shares no code with CBus: NATS's own for Go, driven by lines of JSON.
//
// Takes {"id":…,"op":"request"|"many"|"publish"|"subscribe","subject":…,"data":…,"headers":{…},"timeout":seconds,
// "count":…} on standard input and writes one line with the same id for each; messages of a subscription are lines
// with "subscription". "many" gathers count replies, or what comes before the timeout. The arguments are the server and
// the prefix of inboxes.
package main

import (
	"bufio"
	"encoding/json"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

type command struct {
	ID      int               `json:"id"`
	Op      string            `json:"op"`
	Subject string            `json:"subject"`
	Data    string            `json:"data"`
	Headers map[string]string `json:"headers"`
	Timeout float64           `json:"timeout"`
	Count   int               `json:"count"`
	Reply   string            `json:"reply"`
}

type message struct {
	Subject string      `json:"subject"`
	Data    string      `json:"data"`
	Headers nats.Header `json:"headers"`
}

type line struct {
	ID           int       `json:"id,omitempty"`
	Subscription int       `json:"subscription,omitempty"`
	Error        string    `json:"error,omitempty"`
	Messages     []message `json:"messages"`
}

var output sync.Mutex

func write(l line) {
	output.Lock()
	defer output.Unlock()
	if err := json.NewEncoder(os.Stdout).Encode(l); err != nil {
		os.Exit(1)
	}
}

func seen(m *nats.Msg) message {
	return message{m.Subject, string(m.Data), m.Header}
}

func outgoing(c command) *nats.Msg {
	m := nats.NewMsg(c.Subject)
	m.Data = []byte(c.Data)
	m.Reply = c.Reply
	for name, value := range c.Headers {
		m.Header.Set(name, value)
	}
	return m
}

func many(connection *nats.Conn, c command) ([]message, error) {
	inbox := connection.NewRespInbox()
	subscription, err := connection.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = subscription.Unsubscribe() }()
	m := outgoing(c)
	m.Reply = inbox
	if err := connection.PublishMsg(m); err != nil {
		return nil, err
	}
	end := time.Now().Add(time.Duration(c.Timeout * float64(time.Second)))
	messages := []message{}
	for len(messages) < c.Count {
		reply, err := subscription.NextMsg(time.Until(end))
		if err == nats.ErrTimeout {
			break
		}
		if err != nil {
			return messages, err
		}
		messages = append(messages, seen(reply))
	}
	return messages, nil
}

func run(connection *nats.Conn, c command) ([]message, error) {
	switch c.Op {
	case "request":
		reply, err := connection.RequestMsg(outgoing(c), time.Duration(c.Timeout*float64(time.Second)))
		if err != nil {
			return nil, err
		}
		return []message{seen(reply)}, nil
	case "many":
		return many(connection, c)
	case "publish":
		if err := connection.PublishMsg(outgoing(c)); err != nil {
			return nil, err
		}
	case "subscribe":
		_, err := connection.Subscribe(c.Subject, func(m *nats.Msg) {
			write(line{Subscription: c.ID, Messages: []message{seen(m)}})
		})
		if err != nil {
			return nil, err
		}
	}
	return nil, connection.Flush()
}

func main() {
	connection, err := nats.Connect(os.Args[1], nats.CustomInboxPrefix(os.Args[2]), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		write(line{Error: err.Error()})
		os.Exit(1)
	}
	write(line{})
	input := bufio.NewReader(os.Stdin)
	decoder := json.NewDecoder(input)
	for {
		var c command
		if decoder.Decode(&c) != nil {
			connection.Close()
			return
		}
		go func() {
			messages, err := run(connection, c)
			answer := line{ID: c.ID, Messages: messages}
			if err != nil {
				answer.Error = err.Error()
			}
			write(answer)
		}()
	}
}
