package anoninode

import (
	"fmt"

	"golang.org/x/sys/unix"

	"ckpt/failure"
	"ckpt/kind"
)

// families by the names of address_families(7), and what they are for.
var families = map[int]string{
	unix.AF_AX25: "AF_AX25 (amateur radio)", unix.AF_IPX: "AF_IPX", unix.AF_APPLETALK: "AF_APPLETALK", unix.AF_NETROM: "AF_NETROM (amateur radio)",
	unix.AF_ATMPVC: "AF_ATMPVC", unix.AF_X25: "AF_X25", unix.AF_ROSE: "AF_ROSE (amateur radio)", unix.AF_DECnet: "AF_DECnet",
	unix.AF_KEY: "AF_KEY (IPsec)", unix.AF_ATMSVC: "AF_ATMSVC", unix.AF_RDS: "AF_RDS (datagrams over InfiniBand)", unix.AF_IRDA: "AF_IRDA (infrared)",
	unix.AF_PPPOX: "AF_PPPOX (PPP over Ethernet, L2TP, PPTP)", unix.AF_LLC: "AF_LLC", unix.AF_IB: "AF_IB (InfiniBand)", unix.AF_MPLS: "AF_MPLS",
	unix.AF_CAN: "AF_CAN (vehicle bus)", unix.AF_TIPC: "AF_TIPC (cluster)", unix.AF_BLUETOOTH: "AF_BLUETOOTH", unix.AF_IUCV: "AF_IUCV (z/VM)",
	unix.AF_RXRPC: "AF_RXRPC (AFS)", unix.AF_ISDN: "AF_ISDN", unix.AF_PHONET: "AF_PHONET (modem)", unix.AF_IEEE802154: "AF_IEEE802154 (radio)",
	unix.AF_CAIF: "AF_CAIF (modem)", unix.AF_ALG: "AF_ALG (kernel cryptography)", unix.AF_NFC: "AF_NFC (near field)", unix.AF_VSOCK: "AF_VSOCK (virtual machine)",
	unix.AF_KCM: "AF_KCM (messages over TCP)", unix.AF_QIPCRTR: "AF_QIPCRTR (Qualcomm)", unix.AF_SMC: "AF_SMC (shared memory)", unix.AF_XDP: "AF_XDP",
	unix.AF_MCTP: "AF_MCTP (management controller)",
	// Those that have kinds of their own, of a type these do not know.
	unix.AF_UNIX: "AF_UNIX of this type", unix.AF_INET: "AF_INET of this type", unix.AF_INET6: "AF_INET6 of this type",
	unix.AF_NETLINK: "AF_NETLINK of this type", unix.AF_PACKET: "AF_PACKET of this type",
}

func refuseSocket(desc *kind.Desc) error {
	domain, err := unix.GetsockoptInt(int(desc.File.Fd()), unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return fmt.Errorf("read the socket's family (SO_DOMAIN): %w", err)
	}
	return failure.WithHint(failure.Unsupportedf("a socket of %s", family(domain)), "close it before the dump")
}

func family(domain int) string {
	if name := families[domain]; name != "" {
		return name
	}
	return fmt.Sprintf("address family %d", domain)
}
