package main

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"

	"ckpt/failure"
)

// recipientsOf parses a public key for which an image is encrypted: age1..., that
// of an SSH key ("ssh-ed25519 ..."), or the path of a file with such, one a line.
func recipientsOf(s string) ([]age.Recipient, error) {
	if isRecipient(s) {
		r, err := parseRecipient(s)
		return []age.Recipient{r}, err
	}
	b, err := readKeys(s)
	if errors.Is(err, errNoKeys) || errors.Is(err, errManyKeys) {
		return nil, fmt.Errorf("%s: %w", s, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s is no recipient (age1..., ssh-ed25519 ...), and no file with some: %w", s, failure.WithoutPath(err))
	}
	var all []age.Recipient
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		if isSecret(line) {
			return nil, fmt.Errorf("%s: %w", s, errSecret)
		}
		r, err := parseRecipient(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s, err)
		}
		all = append(all, r)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: it names no recipient", s)
	}
	return all, nil
}

func isRecipient(s string) bool {
	return strings.HasPrefix(s, "age1") || strings.HasPrefix(s, "ssh-")
}

func parseRecipient(s string) (age.Recipient, error) {
	if strings.HasPrefix(s, "ssh-") {
		return agessh.ParseRecipient(s)
	}
	all, err := age.ParseRecipients(strings.NewReader(s))
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// identitiesOf parses the text of a file with secret keys: those of age, one a
// line, or a private key of SSH.
func identitiesOf(b []byte) ([]age.Identity, error) {
	if !bytes.Contains(b, []byte("-----BEGIN ")) {
		ids, err := age.ParseIdentities(bytes.NewReader(b))
		switch {
		case err != nil && isRecipient(string(b)):
			return nil, errPublic
		case err != nil:
			return nil, fmt.Errorf("it is no secret key of age or SSH: %w", err)
		}
		return ids, nil
	}
	id, err := agessh.ParseIdentity(b)
	if _, locked := errors.AsType[*ssh.PassphraseMissingError](err); locked {
		return nil, errLocked
	}
	if err != nil {
		return nil, errors.New("it is no private key of SSH, ed25519 or RSA")
	}
	return []age.Identity{id}, nil
}

var (
	errLocked   = errors.New("the key is protected by a passphrase, for which ckpt does not ask")
	errSecret   = errors.New("it is a secret key, and a public one is asked for")
	errNoPublic = errors.New("it is no public key of SSH or PKIX")
	errPublic   = errors.New("it is a public key, and a secret one is asked for")
)

// isSecret tells the beginning of a secret key.
func isSecret(s string) bool {
	return strings.HasPrefix(s, "AGE-SECRET-KEY-") || strings.HasPrefix(s, "-----BEGIN ") && strings.Contains(s, "PRIVATE KEY-----")
}

// signingKeyOf parses a private ed25519 key: of SSH ("OPENSSH PRIVATE KEY") or
// PKCS #8 ("PRIVATE KEY").
func signingKeyOf(b []byte) (ed25519.PrivateKey, error) {
	key, err := ssh.ParseRawPrivateKey(b)
	if _, locked := errors.AsType[*ssh.PassphraseMissingError](err); locked {
		return nil, errLocked
	}
	switch {
	case err != nil && isRecipient(string(b)):
		return nil, errPublic
	case err != nil:
		return nil, errors.New("it is no private key of SSH or PKCS #8")
	}
	switch k := key.(type) {
	case ed25519.PrivateKey:
		return k, nil
	case *ed25519.PrivateKey:
		return *k, nil
	}
	return nil, errors.New("it is a private key of another sort than ed25519")
}

// verifyKeyOf parses a public ed25519 key: of SSH ("ssh-ed25519 ...") or PKIX
// ("PUBLIC KEY").
func verifyKeyOf(b []byte) (ed25519.PublicKey, error) {
	if isSecret(string(b)) {
		return nil, errSecret
	}
	var key crypto.PublicKey
	if block, _ := pem.Decode(b); block != nil {
		var err error
		if key, err = x509.ParsePKIXPublicKey(block.Bytes); err != nil {
			return nil, errNoPublic
		}
	} else {
		k, _, _, _, err := ssh.ParseAuthorizedKey(b)
		if err != nil {
			return nil, errNoPublic
		}
		if c, ok := k.(ssh.CryptoPublicKey); ok {
			key = c.CryptoPublicKey()
		}
	}
	if k, ok := key.(ed25519.PublicKey); ok {
		return k, nil
	}
	return nil, errors.New("it is a public key of another sort than ed25519")
}

// fingerprint is that of ssh-keygen(1): SHA256:...
func fingerprint(k ed25519.PublicKey) string {
	s, err := ssh.NewPublicKey(k)
	if err != nil {
		return fmt.Sprintf("%x", []byte(k))
	}
	return ssh.FingerprintSHA256(s)
}
