/** The real LVM2 over loop devices, with a configuration and devices of its own: nothing else on the machine is looked at. Needs root. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readlinkSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { havePeer, requirePeer } from "../support/peers.js";

const isRoot = process.getuid?.() === 0;
export const haveLvm2 = havePeer("lvm", "losetup") && requirePeer("root, for loop devices", isRoot);

export interface Lvm2 {
  /** Makes a file, or a part of it, a device of LVM2's; returns the name that LVM2 knows it by. */
  attach(name: string, path: string, options?: { offset?: number; size?: number; sectorSize?: number }): string;
  /** Runs a command of LVM2's. Throws with what it printed when it fails, or warns of anything but its missing kernel. */
  run(command: string, ...args: string[]): string;
  /** Runs a command that may fail. */
  attempt(command: string, ...args: string[]): { readonly ok: boolean; readonly output: string };
  /** Rows of a report; names of devices without their folder. */
  report(command: "lvs" | "vgs" | "pvs", ...args: string[]): Record<string, string>[];
  /** Gives all devices back. */
  detach(): void;
}

/** Remarks that tell of the missing kernel, not of the disks. */
const HARMLESS =
  /Activation disabled|NOT backed up|not zeroed|Converting logical volume|\/mapper\/control|device-mapper|libdevmapper|Failed to check for active|^\s*$/;

export function lvm2In(folder: string): Lvm2 {
  for (const name of ["lvm", "dev", "lock"]) mkdirSync(join(folder, name), { recursive: true });
  const dev = join(folder, "dev");
  writeFileSync(
    join(folder, "lvm", "lvm.conf"),
    `devices { dir="${dev}" scan=["${dev}"] obtain_device_list_from_udev=0 external_device_info_source="none" use_devicesfile=0 hints="none" }
global { activation=0 use_lvmpolld=0 event_activation=0 system_id_source="none" locking_dir="${join(folder, "lock")}" }
activation { monitoring=0 udev_sync=0 udev_rules=0 }
backup { backup=0 archive=0 }
`,
  );
  const env = { ...process.env, LVM_SYSTEM_DIR: join(folder, "lvm"), LVM_SUPPRESS_FD_WARNINGS: "1", TZ: "UTC" };
  const loops: string[] = [];
  const run = (command: string, ...args: string[]) => {
    const output = execFileSync("sh", ["-c", '"$0" "$@" 2>&1', command, ...args], { env, encoding: "utf8" });
    const told = output
      .split("\n")
      .filter((line) => /WARNING|error|Couldn't|Failed/i.test(line) && !HARMLESS.test(line));
    if (told.length > 0) throw new Error(`${command} ${args.join(" ")}: ${told.join("; ")}`);
    return output
      .split("\n")
      .filter((line) => !HARMLESS.test(line))
      .join("\n");
  };
  return {
    attach(name, path, { offset = 0, size, sectorSize } = {}) {
      const limits = [
        ...(offset ? ["-o", String(offset)] : []),
        ...(size ? ["--sizelimit", String(size)] : []),
        ...(sectorSize ? ["-b", String(sectorSize)] : []),
      ];
      const loop = execFileSync("losetup", ["-f", "--show", ...limits, path], { encoding: "utf8" }).trim();
      loops.push(loop);
      symlinkSync(loop, join(dev, name));
      expectLink(join(dev, name), loop);
      return join(dev, name);
    },
    run,
    attempt(command, ...args) {
      const { status, stdout, stderr } = spawnSync(command, args, { env, encoding: "utf8" });
      return { ok: status === 0, output: `${stdout}${stderr}` };
    },
    report(command, ...args) {
      const text = execFileSync(command, [...args, "--reportformat", "json"], {
        env,
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
      });
      const report = JSON.parse(text.replaceAll(`${dev}/`, "")).report[0];
      return report[Object.keys(report)[0]!];
    },
    detach() {
      for (const loop of loops.splice(0)) execFileSync("losetup", ["-d", loop]);
    },
  };
}

function expectLink(path: string, target: string): void {
  if (readlinkSync(path) !== target) throw new Error(`${path} does not lead to ${target}`);
}
