package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"ckpt/container"
	"ckpt/image"
)

// keyFlags are the flags of a command that reads an image.
type keyFlags struct {
	identities []string
	verify     fileName
}

func (k *keyFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&k.identities, "identity", nil, "a `FILE` with a secret key that opens an encrypted image (age, or SSH)")
	cmd.Flags().Var(&k.verify, "verify-key", "refuse an image that is not signed by the public ed25519 key in `FILE`")
}

// read reads the files, and the keys in them.
func (k *keyFlags) read() (texts container.ImageKeys, keys image.Keys, err error) {
	for _, path := range k.identities {
		if path == "" {
			return texts, keys, usage(errors.New("--identity is empty"), "name a file with a key, or leave it out")
		}
		b, ids, err := parseFile(path, identitiesOf)
		if err != nil {
			return texts, keys, badKey("--identity", path, err,
				"give the file that age-keygen has written, or a private key of SSH without a passphrase")
		}
		texts.Identities, keys.Identities = append(texts.Identities, b), append(keys.Identities, ids...)
	}
	if k.verify != "" {
		if texts.Verify, keys.Verify, err = parseFile(string(k.verify), verifyKeyOf); err != nil {
			return texts, keys, badKey("--verify-key", string(k.verify), err,
				"give the public half of the key of --sign; ssh-keygen has written it into FILE.pub")
		}
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
func (k *keyFlags) open(ctx context.Context, a *app, command, path string) (*image.Reader, error) {
	if path == stdio {
		return nil, notFromInput(command)
	}
	_, keys, err := k.read()
	if err != nil {
		return nil, err
	}
	r, err := keys.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		err = a.meantContainer("inspect", err, path)
	}
	if err == nil {
		r.Until(ctx)
	}
	return r, err
}

// sealFlags are those of a command that writes an image.
type sealFlags struct {
	recipients []string
	sign       fileName
}

func (s *sealFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&s.recipients, "encrypt", nil, "encrypt the image for a `RECIPIENT`: age1..., \"ssh-ed25519 ...\", or a file with some")
	cmd.Flags().Var(&s.sign, "sign", "sign the image by the secret ed25519 key in `FILE` (SSH or PKCS #8)")
}

func (s *sealFlags) keys() (to []age.Recipient, by ed25519.PrivateKey, err error) {
	for _, r := range s.recipients {
		if r == "" {
			return nil, nil, usage(errors.New("dump: --encrypt is empty"), "age-keygen makes a key, and tells its recipient")
		}
		some, err := recipientsOf(r)
		if err != nil {
			return nil, nil, badKey("dump: --encrypt", "", err, "age-keygen makes a key, and tells its recipient")
		}
		to = append(to, some...)
	}
	if s.sign == "" {
		return to, nil, nil
	}
	if _, by, err = parseFile(string(s.sign), signingKeyOf); err != nil {
		return nil, nil, badKey("dump: --sign", string(s.sign), err, "ssh-keygen -t ed25519 -N '' -f FILE makes one")
	}
	return to, by, nil
}
