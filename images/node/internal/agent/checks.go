package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"k3arm.dev/images/node/internal/config"
	"k3arm.dev/images/node/internal/logging"
)

const cgroupRoot = "/sys/fs/cgroup"

// cgroupV1 tells whether the machine has the old hierarchies.
func cgroupV1() bool {
	var fs syscall.Statfs_t
	return syscall.Statfs(cgroupRoot, &fs) == nil && int64(fs.Type) != unix.CGROUP2_SUPER_MAGIC
}

// checkCgroups refuses to start where containers cannot be limited: the classic state of a Raspberry Pi.
func checkCgroups() error {
	if !cgroupV1() {
		controllers, err := os.ReadFile(filepath.Join(cgroupRoot, "cgroup.controllers"))
		if err != nil {
			return err
		}
		for _, name := range []string{"cpu", "cpuset", "memory"} {
			if !contains(strings.Fields(string(controllers)), name) {
				return fmt.Errorf("failed to find %s cgroup (v2)", name)
			}
		}
		return nil
	}
	if _, err := os.Stat(filepath.Join(cgroupRoot, "cpuset")); err != nil {
		logging.Warn("Failed to find cpuset cgroup, you may need to add \"cgroup_enable=cpuset\" to your linux cmdline (/boot/cmdline.txt on a Raspberry Pi)")
	}
	if _, err := os.Stat(filepath.Join(cgroupRoot, "memory")); err != nil {
		const rest = "ailed to find memory cgroup, you may need to add \"cgroup_memory=1 cgroup_enable=memory\" to your linux cmdline (/boot/cmdline.txt on a Raspberry Pi)"
		logging.Error("F" + rest)
		return errors.New("f" + rest)
	}
	return nil
}

func contains(all []string, one string) bool {
	for _, a := range all {
		if a == one {
			return true
		}
	}
	return false
}

// checkSnapshotter tries what the runtime will have to do for every container: an overlay mount. Without privileges it fails.
func checkSnapshotter(settings *config.Settings) error {
	if settings.Text("snapshotter") != "overlayfs" {
		return nil
	}
	root := filepath.Join(settings.Text("data-dir"), "agent", "containerd")
	if err := tryOverlay(root); err != nil {
		return fmt.Errorf("\"overlayfs\" snapshotter cannot be enabled for %q, try using \"fuse-overlayfs\" or \"native\": %w", root, err)
	}
	return nil
}

func tryOverlay(root string) error {
	if err := os.MkdirAll(root, 0o711); err != nil {
		return err
	}
	directory, err := os.MkdirTemp(root, "check-overlayfs-support")
	if err != nil {
		return err
	}
	defer os.RemoveAll(directory)
	for _, name := range []string{"lower1", "lower2", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(directory, name), 0o755); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%[1]s/lower2:%[1]s/lower1,upperdir=%[1]s/upper,workdir=%[1]s/work", directory)
	merged := filepath.Join(directory, "merged")
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		return fmt.Errorf("failed to mount overlay: %w", err)
	}
	return unix.Unmount(merged, 0)
}
