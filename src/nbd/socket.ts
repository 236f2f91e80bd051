/** What both ends do with a socket. */
import type { Socket } from "node:net";

/** Idle time after which TCP asks whether the other machine is still there: NBD itself never does. */
export const KEEP_ALIVE_MS = 60_000;

/** Sends the parts in one gathered write; `sent` is called when the socket needs them no longer, also after a failure. */
export function sendParts(socket: Socket, parts: readonly Uint8Array[], sent: () => void): void {
  if (parts.length === 1) return void socket.write(parts[0]!, sent);
  socket.cork();
  for (const [i, part] of parts.entries()) socket.write(part, i === parts.length - 1 ? sent : undefined);
  socket.uncork();
}

interface Handle {
  readonly fd?: number;
  reading: boolean;
  readStop(): number;
}

/** The descriptor, which stays the socket's own; null when it has none any more. */
export function descriptorOf(socket: Socket): number | null {
  const fd = (socket as unknown as { _handle?: Handle | null })._handle?.fd;
  return fd === undefined || fd < 0 ? null : fd;
}

/**
 * The descriptor of a paused socket, which the event loop does not read any more until the socket is resumed, and what it has read already.
 * Node has no public way to ask for either; its own streams do the same, and have for all of its versions.
 */
export function takeDescriptor(socket: Socket): { readonly fd: number; readonly rest: Buffer } | null {
  const fd = descriptorOf(socket);
  if (fd === null) return null;
  const handle = (socket as unknown as { _handle: Handle })._handle;
  handle.readStop();
  handle.reading = false;
  return { fd, rest: (socket.read() as Buffer | null) ?? Buffer.alloc(0) };
}
