/** What a daemon that died was holding, told to people. */
import type { Dom0Record } from "./api-types.js";

export function describeFound(found: Dom0Record): string {
  const devices = found.devices.map((device) => `${device.domain}/${device.vdev} (${device.disk}, ${device.access})`);
  const held =
    devices.length === 0
      ? "it held no devices"
      : `it held ${devices.join(", ")}; they are detached and unlocked now, every flushed write is in its file`;
  return `the Dom0 with pid ${found.pid}, started ${found.started}, ended without stopping: ${held}`;
}
