// Package firewall decides which packets pass, keeps track of the connections they belong to, and translates addresses.
// It is a value: a packet and now go in, a verdict and an edit of the packet come out. It waits for nothing, starts
// nothing and locks nothing; whoever owns a [Firewall] lets one goroutine at a time into it.
//
// A packet meets it once or twice:
//
//	Arrive   a packet came in by an interface: what is it part of, and is its destination translated?
//	         then the owner looks up the route of the destination that now stands in the packet
//	Filter   where it goes is known (In, Out, Forward): do the rules let it, and is its source translated?
//
// Packets of the owner's own meet Filter alone. The owner judges a packet's source (martians, reverse path) before
// Arrive, and time to live and size between the two, so that an ICMP error of its own quotes what the sender knows.
//
// # Rules
//
// [Rules] are Go values with a short text form ([Parse], [Rules.String]), a line each:
//
//	policy in drop
//	policy forward drop
//	allow in tcp from any to any port 22,80,8000-8010
//	allow in icmp type echo-request limit 10/second burst 20
//	reject in on wan tcp to any port 113 with reset
//	allow forward on lan via wan from 192.0.2.0/24
//	allow forward state translated                              # what the lines below let in
//	nat on wan from 192.0.2.0/24 filter address                 # masquerade
//	forward tcp 203.0.113.1:8080 to 192.0.2.2:80                # port forwarding
//	forward tcp,udp on wan port 7000-7010 to 192.0.2.3:7000     # by the address that wan has
//	map 203.0.113.5 to 192.0.2.5                                # one to one
//	clamp mss 1400 on wan
//
// The first allow, drop or reject that matches decides, and else the policy; count and log go on to the next rule. "on"
// is the interface that the packet came in by (or, for out, goes out by), "via" the one it is forwarded to. Rules see
// addresses after the destination was translated and before the source is.
//
// Each rule is asked about packets of the states that it names, and a rule that names none about those that begin a
// connection. What follows on such a connection, in either direction, and the ICMP errors that belong to it, pass unless
// a rule names their state. So `allow in tcp to any port 80` is all a server needs. The states are
//
//	new          begins a connection; of these, translated: a forward, map or nat line changed its destination
//	established  belongs to a connection that rules have let begin
//	related      an ICMP error about a packet of such a connection
//	invalid      belongs to nothing known: a TCP segment without a connection or outside its windows, an answer without
//	             a question
//
// Neighbour Discovery of IPv6 is not asked about, since without it there is no link. DHCP's answer to a broadcast is no
// answer by its addresses, and needs `allow in udp from any port 67 to any port 68`.
//
// # Floods
//
// A connection costs memory, which Config.Connections bounds, and time, which is what a flood of new ones takes from those
// that there are. So two rates bound how fast packets that came in begin connections: those of one source
// (Config.SourceRate) and all by one interface (Config.NewRate). What comes too soon is dropped before its route is looked
// up and before rules are asked, without an answer, and counted as SourceRate or NewRate. Only what becomes a connection
// is charged, and a SYN that comes again; packets that the rules drop cost nobody's rate, the owner's own packets are not
// bounded, and no packet of a connection is but its SYNs. A full table gives up the oldest of what is no conversation.
//
// # Translation
//
// Mapping is endpoint-independent (RFC 4787 REQ-1): an internal address and port has one external port, whoever it talks
// to, the same number if that is free. What may come back in through it is the nat line's filter. Hosts behind reach each
// other by their external addresses (hairpin). A mapping lives as long as a connection uses it. ICMP errors are translated
// with the packets that they quote.
//
// Not helped: protocols that write addresses into their text, FTP's active mode (PORT, EPRT) among them; FTP's passive mode
// needs no help from the client's side. The address family is never changed.
//
// Fragments are refused: only the first has ports, so the owner puts packets together before Arrive.
package firewall
