package hold

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// table is an nftables table with the connections that it holds in a set for
// each family, and a chain for each way. The hooks are those where addresses
// are as sockets know them: in is behind, out in front of any translation (NAT).
type table struct {
	table   *nftables.Table
	in, out *nftables.Chain
	held    []*set
}

// set is the connections of one family: address and port of the other end, then
// those of this.
type set struct {
	family   family
	set      *nftables.Set
	elements []nftables.SetElement
}

// family is what differs between IPv4 and IPv6.
type family struct {
	name     string
	proto    byte // as meta nfproto
	addr     nftables.SetDatatype
	size     uint32 // of an address, in bytes
	src, dst uint32 // where they are in the header
}

func families() []family {
	return []family{
		{"held4", unix.NFPROTO_IPV4, nftables.TypeIPAddr, 4, 12, 16},
		{"held6", unix.NFPROTO_IPV6, nftables.TypeIP6Addr, 16, 8, 24},
	}
}

func newTable(name string) *table {
	t := &table{table: &nftables.Table{Name: name, Family: nftables.TableFamilyINet}}
	chain := func(name string, hook *nftables.ChainHook) *nftables.Chain {
		return &nftables.Chain{Name: name, Table: t.table, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityRaw}
	}
	t.in, t.out = chain("in", nftables.ChainHookInput), chain("out", nftables.ChainHookOutput)
	for _, f := range families() {
		t.held = append(t.held, &set{family: f, set: &nftables.Set{Table: t.table, Name: f.name, Concatenation: true,
			KeyType: nftables.MustConcatSetType(f.addr, nftables.TypeInetService, f.addr, nftables.TypeInetService)}})
	}
	return t
}

// own makes the table one that vanishes with the netlink socket, which alone
// may change it. The library does not set flags.
func own(nl *netlink.Conn, t *nftables.Table) error {
	const (
		batchBegin, batchEnd = unix.NFNL_MSG_BATCH_BEGIN, unix.NFNL_MSG_BATCH_END
		flagOwner            = 2 // NFT_TABLE_F_OWNER (linux/netfilter/nf_tables.h)
	)
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_TABLE_NAME, Data: []byte(t.Name + "\x00")},
		{Type: unix.NFTA_TABLE_FLAGS, Data: binaryutil.BigEndian.PutUint32(flagOwner)},
	})
	if err != nil {
		return err
	}
	// struct nfgenmsg: family, version, resource id
	batch := []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}
	if _, err := nl.SendMessages([]netlink.Message{
		{Header: netlink.Header{Type: batchBegin, Flags: netlink.Request}, Data: batch},
		{Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWTABLE, Flags: netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Excl},
			Data: append([]byte{byte(t.Family), unix.NFNETLINK_V0, 0, 0}, attrs...)},
		{Header: netlink.Header{Type: batchEnd, Flags: netlink.Request}, Data: batch},
	}); err != nil {
		return err
	}
	_, err = nl.Receive()
	return err
}

// make fills a table that is there.
func (t *table) make(nf *nftables.Conn, rules func(*table, *nftables.Conn, *set)) error {
	nf.AddChain(t.in)
	nf.AddChain(t.out)
	for _, s := range t.held {
		if err := nf.AddSet(s.set, s.elements); err != nil {
			return err
		}
		rules(t, nf, s)
	}
	return nf.Flush()
}

// create makes the whole table at one stroke; EEXIST if it is there.
func (t *table) create(nf *nftables.Conn, conns []Conn) error {
	for _, c := range conns {
		s := t.of(c)
		s.elements = append(s.elements, nftables.SetElement{Key: key(c)})
	}
	nf.CreateTable(t.table)
	return t.make(nf, (*table).dropUnheld)
}

func (t *table) add(nf *nftables.Conn, c Conn) error {
	if err := nf.SetAddElements(t.of(c).set, []nftables.SetElement{{Key: key(c)}}); err != nil {
		return err
	}
	return nf.Flush()
}

func (t *table) of(c Conn) *set {
	if c.Peer.Addr().Unmap().Is4() {
		return t.held[0]
	}
	return t.held[1]
}

// key is c as the rules look it up: each part fills whole words.
func key(c Conn) []byte {
	var b []byte
	for _, a := range []netip.AddrPort{c.Peer, c.Local} {
		b = append(b, a.Addr().Unmap().AsSlice()...)
		b = append(b, byte(a.Port()>>8), byte(a.Port()), 0, 0)
	}
	return b
}

// dropAll drops what comes in and what goes out.
func (t *table) dropAll(nf *nftables.Conn, s *set) {
	t.rule(nf, t.in, s.match(true), verdict(expr.VerdictDrop))
	t.rule(nf, t.out, s.match(false), verdict(expr.VerdictDrop))
}

// dropUnheld drops what comes in for no socket, for one that only listens, or
// for one with Mark; and what goes out of one with Mark. A socket that listens
// on one address cannot be told from one that is connected: so no RST goes out.
func (t *table) dropUnheld(nf *nftables.Conn, s *set) {
	t.rule(nf, t.in, s.match(true), marked(), verdict(expr.VerdictAccept))
	t.rule(nf, t.in, s.match(true),
		socket(expr.SocketKeyWildcard, expr.CmpOpEq, []byte{0}),
		socket(expr.SocketKeyMark, expr.CmpOpNeq, markBytes()), verdict(expr.VerdictAccept))
	t.rule(nf, t.in, s.match(true), verdict(expr.VerdictDrop))
	t.rule(nf, t.out, s.match(false), marked(), verdict(expr.VerdictDrop))
	t.rule(nf, t.out, s.match(false), isReset(), verdict(expr.VerdictDrop))
}

func (t *table) rule(nf *nftables.Conn, c *nftables.Chain, parts ...[]expr.Any) {
	nf.AddRule(&nftables.Rule{Table: t.table, Chain: c, Exprs: slices.Concat(parts...)})
}

// The registers: one of 16 bytes for comparisons, and the first of those of 4
// bytes (NFT_REG32_00), from which on a key is put together.
const (
	scratch  = unix.NFT_REG_1
	keyStart = unix.NFT_REG32_00
)

// match goes on with packets of the connections in s.
func (s *set) match(in bool) []expr.Any {
	const srcPort, dstPort = 0, 2 // struct tcphdr
	peer, local, peerPort, localPort := s.family.src, s.family.dst, uint32(srcPort), uint32(dstPort)
	if !in {
		peer, local, peerPort, localPort = local, peer, localPort, peerPort
	}
	words := s.family.size / 4
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: scratch},
		&expr.Cmp{Op: expr.CmpOpEq, Register: scratch, Data: []byte{s.family.proto}},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: scratch},
		&expr.Cmp{Op: expr.CmpOpEq, Register: scratch, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: keyStart, Base: expr.PayloadBaseNetworkHeader, Offset: peer, Len: s.family.size},
		&expr.Payload{DestRegister: keyStart + words, Base: expr.PayloadBaseTransportHeader, Offset: peerPort, Len: 2},
		&expr.Payload{DestRegister: keyStart + words + 1, Base: expr.PayloadBaseNetworkHeader, Offset: local, Len: s.family.size},
		&expr.Payload{DestRegister: keyStart + 2*words + 1, Base: expr.PayloadBaseTransportHeader, Offset: localPort, Len: 2},
		&expr.Lookup{SourceRegister: keyStart, SetName: s.set.Name, SetID: s.set.ID},
	}
}

// marked goes on with packets that have Mark.
func marked() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: scratch},
		&expr.Cmp{Op: expr.CmpOpEq, Register: scratch, Data: markBytes()},
	}
}

// socket goes on with packets to a socket of which something is true.
func socket(k expr.SocketKey, op expr.CmpOp, data []byte) []expr.Any {
	return []expr.Any{
		&expr.Socket{Key: k, Register: scratch},
		&expr.Cmp{Op: op, Register: scratch, Data: data},
	}
}

// isReset goes on with a RST.
func isReset() []expr.Any {
	const flags, rst = 13, 1 << 2 // struct tcphdr
	return []expr.Any{
		&expr.Payload{DestRegister: scratch, Base: expr.PayloadBaseTransportHeader, Offset: flags, Len: 1},
		&expr.Bitwise{SourceRegister: scratch, DestRegister: scratch, Len: 1, Mask: []byte{rst}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: scratch, Data: []byte{0}},
	}
}

func markBytes() []byte { return binaryutil.NativeEndian.PutUint32(Mark) }

func verdict(k expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: k}} }
