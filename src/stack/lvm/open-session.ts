/** A session over disks that are opened by their names. */
import { openDiskStack } from "../disk.js";
import { openSessionBy, type Session, type SessionOptions } from "./session.js";

export function openSession(names: readonly string[], options: SessionOptions): Promise<Session> {
  return openSessionBy(openDiskStack, names, options);
}
