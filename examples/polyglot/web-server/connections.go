package main

import (
	"net"
	"net/netip"
	"sync"
)

// bounded is a listener that closes connections beyond a limit: of all that are open, and of those of one source.
type bounded struct {
	net.Listener
	all, ofSource int

	lock  sync.Mutex
	total int
	open  map[netip.Addr]int
}

// counted is an open connection, which counts until it is closed.
type counted struct {
	net.Conn
	leave sync.Once
	from  netip.Addr
	at    *bounded
}

func (b *bounded) Accept() (net.Conn, error) {
	for {
		connection, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := source(connection.RemoteAddr())
		if b.enter(from) {
			return &counted{Conn: connection, from: from, at: b}, nil
		}
		logLine(levelDebug, "refused a connection", "address", connection.RemoteAddr().String())
		_ = connection.Close()
	}
}

func (b *bounded) enter(from netip.Addr) bool {
	b.lock.Lock()
	defer b.lock.Unlock()
	if b.total >= b.all || b.open[from] >= b.ofSource {
		return false
	}
	b.total++
	b.open[from]++
	return true
}

func (c *counted) Close() error {
	c.leave.Do(func() {
		c.at.lock.Lock()
		defer c.at.lock.Unlock()
		c.at.total--
		if c.at.open[c.from]--; c.at.open[c.from] == 0 {
			delete(c.at.open, c.from)
		}
	})
	return c.Conn.Close()
}

// source is who has an address: with IPv6, the network of 64 bits that one customer gets.
func source(address net.Addr) netip.Addr {
	parsed, err := netip.ParseAddrPort(address.String())
	if err != nil {
		return netip.Addr{}
	}
	from := parsed.Addr().Unmap()
	if from.Is6() {
		if network, err := from.Prefix(64); err == nil {
			from = network.Addr()
		}
	}
	return from
}
