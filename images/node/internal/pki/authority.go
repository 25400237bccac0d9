// Package pki makes the certificates of a cluster: its two authorities (server and client) and what they sign. Authorities that
// somebody placed beforehand are used as they are, which is how a joining node can know their hash before the cluster exists.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k3arm.dev/images/node/internal/logging"
)

// Lifetimes as k3s has them.
const (
	authorityYears = 10
	leafYears      = 1
	backdate       = time.Hour
)

// Authority is a certificate authority with its key.
type Authority struct {
	// Bundle is the file as it lies on disk; the hash in a token is taken from exactly these bytes.
	Bundle      []byte
	Certificate *x509.Certificate
	key         crypto.Signer
}

// LoadOrCreate reads NAME.crt and NAME.key of a directory, or makes them. Like k3s it silently replaces a certificate that has
// no key beside it.
func LoadOrCreate(directory, name string) (*Authority, error) {
	certFile := filepath.Join(directory, name+".crt")
	keyFile := filepath.Join(directory, name+".key")
	if missing(certFile) || missing(keyFile) {
		if err := create(certFile, keyFile, name); err != nil {
			return nil, err
		}
	}
	bundle, err := os.ReadFile(certFile)
	if err != nil {
		return nil, err
	}
	certificates, err := ParseCertificates(bundle)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", certFile, err)
	}
	key, err := readKey(keyFile)
	if err != nil {
		return nil, err
	}
	return &Authority{Bundle: bundle, Certificate: certificates[0], key: key}, nil
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return os.IsNotExist(err)
}

func create(certFile, keyFile, name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(0),
		Subject:               pkix.Name{CommonName: fmt.Sprintf("k3s-%s@%d", name, now.Unix())},
		NotBefore:             now.Add(-backdate).UTC(),
		NotAfter:              now.AddDate(authorityYears, 0, 0).UTC(),
		KeyUsage:              x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	if err := writeKey(keyFile, key); err != nil {
		return err
	}
	subject := template.Subject.CommonName
	logging.Info("generated self-signed CA certificate CN=%s: notBefore=%s notAfter=%s", subject, template.NotBefore, template.NotAfter)
	return os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// Leaf says what a certificate is for.
type Leaf struct {
	CommonName    string
	Organizations []string
	Names         []string
	Addresses     []net.IP
	Usage         x509.ExtKeyUsage
}

// Sign makes a certificate for a public key, PEM encoded. It is valid from when its authority is.
func (a *Authority) Sign(leaf Leaf, public crypto.PublicKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 62))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: leaf.CommonName, Organization: leaf.Organizations},
		NotBefore:    a.Certificate.NotBefore,
		NotAfter:     time.Now().AddDate(leafYears, 0, 0).UTC(),
		KeyUsage:     x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{leaf.Usage},
		DNSNames:     leaf.Names,
		IPAddresses:  leaf.Addresses,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Certificate, public, a.key)
	if err != nil {
		return nil, err
	}
	name := "CN=" + leaf.CommonName
	for _, organization := range leaf.Organizations {
		name += ",O=" + organization
	}
	logging.Info("certificate %s signed by CN=%s: notBefore=%s notAfter=%s", name, a.Certificate.Subject.CommonName, template.NotBefore, template.NotAfter.Truncate(time.Second))
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// SignRequest signs the key of a certificate request in DER form, whatever else the request asks for.
func (a *Authority) SignRequest(leaf Leaf, request []byte) ([]byte, error) {
	parsed, err := x509.ParseCertificateRequest(request)
	if err != nil {
		return nil, err
	}
	if err := parsed.CheckSignature(); err != nil {
		return nil, err
	}
	return a.Sign(leaf, parsed.PublicKey)
}

// Verify tells whether a client's certificate was signed by this authority and is valid now.
func (a *Authority) Verify(certificate *x509.Certificate) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.Bundle)
	_, err := certificate.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err
}

// ParseCertificates reads all certificates of a PEM file.
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	var certificates []*x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certificates = append(certificates, certificate)
	}
	if len(certificates) == 0 {
		return nil, errors.New("data does not contain any valid RSA or ECDSA certificates")
	}
	return certificates, nil
}

// Hash is the SHA-256 that a token carries: of the file's bytes if it holds one certificate, else of the root it leads to, so
// that an authority below a lasting root may be renewed.
func Hash(bundle []byte) (string, error) {
	certificates, err := ParseCertificates(bundle)
	if err != nil {
		return "", err
	}
	if len(certificates) > 1 {
		if root := rootOf(certificates); root != nil {
			bundle = root.Raw
		}
	}
	sum := sha256.Sum256(bundle)
	return hex.EncodeToString(sum[:]), nil
}

func rootOf(certificates []*x509.Certificate) *x509.Certificate {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, certificate := range certificates[1:] {
		if certificate.CheckSignatureFrom(certificate) == nil {
			roots.AddCert(certificate)
		} else {
			intermediates.AddCert(certificate)
		}
	}
	options := x509.VerifyOptions{Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	chains, err := certificates[0].Verify(options)
	if err != nil {
		return nil
	}
	return chains[0][len(chains[0])-1]
}
