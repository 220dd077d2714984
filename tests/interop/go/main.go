// Runs cases with rocketmq-client-go against a server and prints one line for each.
// usage: interop list | run NAMESRV BROKER CASE...
package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2/rlog"
)

const caseTime = 150 * time.Second
const atATime = 4 // most cases wait most of the time

// runCase returns "" or why the case failed; one that hangs is left behind.
func runCase(c oneCase, namesrv, broker string) string {
	done := make(chan string, 1)
	go func() {
		k := &Kit{name: c.name, namesrv: namesrv, broker: broker}
		defer func() {
			switch why := recover().(type) {
			case nil:
				done <- ""
			default:
				done <- strings.ReplaceAll(fmt.Sprint(why), "\n", " ")
			}
		}()
		defer k.close()
		c.run(k)
	}()
	select {
	case why := <-done:
		return why
	case <-time.After(caseTime):
		return fmt.Sprintf("not finished after %v", caseTime)
	}
}

func main() {
	rlog.SetLogLevel("error")
	switch os.Args[1] {
	case "list":
		for _, c := range cases {
			fmt.Println(c.name)
		}
	case "silent-producer":
		silentProducer(os.Args[2], os.Args[3], os.Args[4])
	case "member":
		member(os.Args[2], os.Args[3], os.Args[4])
	case "run":
		wanted := " " + strings.Join(os.Args[4:], " ") + " "
		lanes := make(chan struct{}, atATime)
		var running sync.WaitGroup
		for _, c := range cases {
			if !strings.Contains(wanted, " "+c.name+" ") {
				continue
			}
			lanes <- struct{}{}
			running.Add(1)
			go func(c oneCase) {
				if why := runCase(c, os.Args[2], os.Args[3]); why != "" {
					fmt.Printf("FAIL %s: %s\n", c.name, why)
				} else {
					fmt.Printf("ok %s\n", c.name)
				}
				<-lanes
				running.Done()
			}(c)
		}
		running.Wait()
	}
}
