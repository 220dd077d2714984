// Runs cases with rocketmq-client-go against a server and prints one line for each.
// usage: interop list | run NAMESRV BROKER CASE...
package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/apache/rocketmq-client-go/v2/rlog"
)

const caseTime = 150 * time.Second

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
		for _, c := range cases {
			if !strings.Contains(wanted, " "+c.name+" ") {
				continue
			}
			if why := runCase(c, os.Args[2], os.Args[3]); why != "" {
				fmt.Printf("FAIL %s: %s\n", c.name, why)
			} else {
				fmt.Printf("ok %s\n", c.name)
			}
		}
	}
}
