/** What the verbs of domains and devices share: the client of the user's daemon, and lines about devices. */
import { fileURLToPath } from "node:url";
import { printable } from "../bytes/printable.js";
import { formatSize } from "../bytes/size.js";
import type { AttachedDevice } from "../dom0/api-types.js";
import { Dom0Client } from "../dom0/client.js";
import { type XvdPaths, xvdPaths } from "../os/xvd-paths.js";

export function userPaths(): XvdPaths {
  return xvdPaths(process.env, process.getuid?.());
}

/** `autostart`: a daemon is started when none runs. */
export function dom0Client(options: { autostart: boolean }): Dom0Client {
  const xvd = fileURLToPath(new URL("../../bin/xvd.js", import.meta.url));
  const daemonCommand = [process.execPath, xvd, "dom0", "start", "--foreground"];
  return new Dom0Client({ paths: userPaths(), ...(options.autostart ? { daemonCommand } : {}) });
}

/** One line for the device and one for each partition. */
export function deviceLines(device: AttachedDevice): string[] {
  const whole = `${device.device.padEnd(14)} ${formatSize(device.size).padStart(10)}  ${device.access}  ${device.state.padEnd(10)} ${device.domain}  ${device.disk}`;
  const partitions = device.partitions.map((partition) =>
    `${partition.device.padEnd(14)} ${formatSize(partition.size).padStart(10)}  ${printable(partition.name)}`.trimEnd(),
  );
  return [whole, ...partitions];
}
