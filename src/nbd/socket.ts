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
