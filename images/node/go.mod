module k3arm.dev/images/node

go 1.19

require (
	github.com/klauspost/compress v1.17.4
	github.com/vishvananda/netlink v1.2.1-beta.2
	golang.org/x/sys v0.13.0
	gopkg.in/yaml.v2 v2.4.0
)

require github.com/vishvananda/netns v0.0.0-20200728191858-db3c7e526aae // indirect
