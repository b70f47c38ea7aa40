// Command servers runs the far ends of the benchmark: a model hub with its CDN, or an S3 store.
//
// Both exist to cost next to nothing, since they share the machine with what is measured: bodies leave by sendfile, nothing is
// hashed and no signature is checked. The benchmark proves the bytes itself, outside the time it measures.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("usage: servers hub|store [flags]")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address of the hub or the store")
	switch os.Args[1] {
	case "hub":
		cdnListen := flags.String("cdn", "127.0.0.2:0", "address of the CDN; another host than the hub's, as clients treat that case apart")
		models := flags.String("models", "", "JSON file with the models")
		flags.Parse(os.Args[2:])
		cdnSocket := bind(*cdnListen)
		hub, err := readHub(*models, urlOf(cdnSocket))
		if err != nil {
			log.Fatal(err)
		}
		hubSocket := bind(*listen)
		announce(map[string]string{"url": urlOf(hubSocket), "cdn": urlOf(cdnSocket)})
		go serve(cdnSocket, http.HandlerFunc(hub.serveContent))
		serve(hubSocket, hub)
	case "store":
		dir := flags.String("dir", "", "folder of the stored bytes")
		bucket := flags.String("bucket", "bench", "name of the only bucket")
		flags.Parse(os.Args[2:])
		socket := bind(*listen)
		announce(map[string]string{"url": urlOf(socket)})
		serve(socket, newStore(*dir, *bucket))
	default:
		log.Fatalf("unknown server %q", os.Args[1])
	}
}

func bind(address string) net.Listener {
	socket, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	return socket
}

func urlOf(socket net.Listener) string { return "http://" + socket.Addr().String() }

// announce prints the addresses as one JSON line: the caller waits for it instead of trying the port.
func announce(addresses map[string]string) {
	line, err := json.Marshal(addresses)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
}

func serve(socket net.Listener, handler http.Handler) { log.Fatal(http.Serve(socket, handler)) }
