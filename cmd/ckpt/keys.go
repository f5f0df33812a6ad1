package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"ckpt/container"
	"ckpt/failure"
	"ckpt/image"
)

// keyFlags are the flags of a command that reads an image.
type keyFlags struct {
	identities []string
	verify     string
}

func (k *keyFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&k.identities, "identity", nil, "a `FILE` with a secret key that opens an encrypted image (age, or SSH)")
	cmd.Flags().StringVar(&k.verify, "verify-key", "", "refuse an image that is not signed by the public ed25519 key in `FILE`")
}

// read reads the files, and the keys in them.
func (k *keyFlags) read() (texts container.ImageKeys, keys image.Keys, err error) {
	for _, path := range k.identities {
		var ids []age.Identity
		b, err := os.ReadFile(path)
		if err == nil {
			ids, err = identitiesOf(b)
		}
		if err != nil {
			return texts, keys, usage(fmt.Errorf("--identity %s: %w", path, failure.WithoutPath(err)),
				"give the file that age-keygen has written, or a private key of SSH without a passphrase")
		}
		texts.Identities, keys.Identities = append(texts.Identities, b), append(keys.Identities, ids...)
	}
	if k.verify != "" {
		b, err := os.ReadFile(k.verify)
		if err == nil {
			keys.Verify, err = verifyKeyOf(b)
		}
		if err != nil {
			return texts, keys, usage(fmt.Errorf("--verify-key %s: %w", k.verify, failure.WithoutPath(err)),
				"give the public half of the key of --sign; ssh-keygen has written it into FILE.pub")
		}
		texts.Verify = b
	}
	return texts, keys, nil
}

// given: there are keys for an image to read.
func (k *keyFlags) given() bool { return len(k.identities) > 0 || k.verify != "" }

// parseKeys parses what a command has read and found to be right.
func parseKeys(texts container.ImageKeys) (k image.Keys, err error) {
	for _, b := range texts.Identities {
		ids, err := identitiesOf(b)
		if err != nil {
			return k, fmt.Errorf("--identity: %w", err)
		}
		k.Identities = append(k.Identities, ids...)
	}
	if texts.Verify != nil {
		if k.Verify, err = verifyKeyOf(texts.Verify); err != nil {
			return k, fmt.Errorf("--verify-key: %w", err)
		}
	}
	return k, nil
}

// open opens the image in a directory or file that a command names.
func (k *keyFlags) open(command, path string) (*image.Reader, error) {
	if path == stdio {
		return nil, notFromInput(command)
	}
	_, keys, err := k.read()
	if err != nil {
		return nil, err
	}
	return keys.Open(path)
}

// sealFlags are those of a command that writes an image.
type sealFlags struct {
	recipients []string
	sign       string
}

func (s *sealFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&s.recipients, "encrypt", nil, "encrypt the image for a `RECIPIENT`: age1..., \"ssh-ed25519 ...\", or a file with some")
	cmd.Flags().StringVar(&s.sign, "sign", "", "sign the image by the secret ed25519 key in `FILE` (SSH or PKCS #8)")
}

func (s *sealFlags) keys() (to []age.Recipient, by ed25519.PrivateKey, err error) {
	for _, r := range s.recipients {
		if r == "" {
			return nil, nil, usage(errors.New("dump: --encrypt is empty"), "age-keygen makes a key, and tells its recipient")
		}
		some, err := recipientsOf(r)
		if err != nil {
			return nil, nil, usage(fmt.Errorf("dump: --encrypt: %w", err), "age-keygen makes a key, and tells its recipient")
		}
		to = append(to, some...)
	}
	if s.sign == "" {
		return to, nil, nil
	}
	b, err := os.ReadFile(s.sign)
	if err == nil {
		by, err = signingKeyOf(b)
	}
	if err != nil {
		return nil, nil, usage(fmt.Errorf("dump: --sign %s: %w", s.sign, failure.WithoutPath(err)), "ssh-keygen -t ed25519 -N '' -f FILE makes one")
	}
	return to, by, nil
}
