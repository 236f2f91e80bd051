/** What both ends do with a socket. */
import type { Socket } from "node:net";
import type { StreamIo } from "../os/stream-io.js";

/** Idle time after which TCP asks whether the other machine is still there: NBD itself never does. */
export const KEEP_ALIVE_MS = 60_000;

/** Sends the parts in one gathered write; `sent` is called when the socket needs them no longer, also after a failure. */
export function sendParts(socket: Socket, parts: readonly Uint8Array[], sent: () => void): void {
  if (parts.length === 1) return void socket.write(parts[0]!, sent);
  socket.cork();
  for (const [i, part] of parts.entries()) socket.write(part, i === parts.length - 1 ? sent : undefined);
  socket.uncork();
}

/** The same past the stream, as far as the socket takes it at once; `io` where the socket is plain and its descriptor may be used. */
export function sendPartsNow(io: StreamIo, socket: Socket, parts: readonly Uint8Array[], sent: () => void): void {
  const fd = descriptorOf(socket);
  const count = fd === null || socket.writableLength > 0 ? 0 : io.send(fd, parts);
  const rest = count > 0 ? withoutBytes(parts, count) : parts; // an error is told by the stream, which meets it too
  if (rest.length === 0) sent();
  else sendParts(socket, rest, sent);
}

/** The parts without their first `count` bytes. */
export function withoutBytes(parts: readonly Uint8Array[], count: number): readonly Uint8Array[] {
  let at = 0;
  let left = count;
  while (at < parts.length && left >= parts[at]!.length) left -= parts[at++]!.length;
  if (at === parts.length) return [];
  const rest = parts.slice(at);
  rest[0] = rest[0]!.subarray(left);
  return rest;
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
