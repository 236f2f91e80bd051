// LVM2 with a configuration and devices of its own, over loop devices: needs root. Archive and backup are on, as ours are.
import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runProgram } from "./timing.js";

/** `env` makes LVM2's commands see only what `attach` was given; `detach` gives it all back. */
export function lvm2In(folder, env) {
  const at = (...names) => join(folder, ...names);
  for (const name of ["lvm", "dev", "lock", "backup", "archive"]) mkdirSync(at(name), { recursive: true });
  writeFileSync(
    at("lvm", "lvm.conf"),
    `devices { dir="${at("dev")}" scan=["${at("dev")}"] obtain_device_list_from_udev=0 external_device_info_source="none" use_devicesfile=0 hints="none" }
global { activation=0 use_lvmpolld=0 event_activation=0 system_id_source="none" locking_dir="${at("lock")}" }
activation { monitoring=0 udev_sync=0 udev_rules=0 }
backup { backup=1 archive=1 backup_dir="${at("backup")}" archive_dir="${at("archive")}" }
`,
  );
  const loops = [];
  return {
    env: { ...env, LVM_SYSTEM_DIR: at("lvm"), LVM_SUPPRESS_FD_WARNINGS: "1" },
    /** A copy of the file, so that both sides begin with the same bytes. */
    attachCopy(file) {
      const copy = at("copy.img");
      copyFileSync(file, copy);
      const loop = runProgram(["losetup", "-f", "--show", copy], { stdio: ["ignore", "pipe", "pipe"] }).stdout.trim();
      loops.push(loop);
      symlinkSync(loop, at("dev", "pv"));
    },
    detach() {
      for (const loop of loops.splice(0)) runProgram(["losetup", "-d", loop]);
    },
  };
}
