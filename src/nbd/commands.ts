/** What each request does to the device, once it was found allowed. */
import type { BlockDevice } from "../block/device.js";
import { CMD, CMD_FLAG } from "./codes.js";
import type { Request } from "./request.js";

const PIECE = 1 << 20;

let zeros: Uint8Array | undefined;

/** Commands whose reply is only success or an error. Resolves when the reply may say so, FUA included. */
export function execute(device: BlockDevice, request: Request, data: Uint8Array | undefined): Promise<void> {
  const done = start(device, request, data);
  return (request.flags & CMD_FLAG.FUA) !== 0 && request.type !== CMD.FLUSH && request.type !== CMD.CACHE
    ? done.then(() => device.flush())
    : done;
}

function start(
  device: BlockDevice,
  { type, flags, offset, length }: Request,
  data: Uint8Array | undefined,
): Promise<void> {
  switch (type) {
    case CMD.WRITE:
      return device.write(offset, data!);
    case CMD.FLUSH:
      return device.flush();
    case CMD.TRIM:
      return device.discard(offset, length);
    case CMD.WRITE_ZEROES:
      return (flags & CMD_FLAG.NO_HOLE) !== 0 ? writeZeros(device, offset, length) : device.zero(offset, length);
    case CMD.CACHE:
      return readAhead(device, offset, length);
    default:
      throw new TypeError(`${type} is no command with an empty reply`);
  }
}

/** Zeros that take their space, as NO_HOLE asks. */
async function writeZeros(device: BlockDevice, offset: number, length: number): Promise<void> {
  zeros ??= new Uint8Array(PIECE);
  for (let done = 0; done < length; done += PIECE)
    await device.write(offset + done, length - done < PIECE ? zeros.subarray(0, length - done) : zeros);
}

/** Brings the range into the caches below the device. */
async function readAhead(device: BlockDevice, offset: number, length: number): Promise<void> {
  const scratch = new Uint8Array(Math.min(PIECE, length));
  for (let done = 0; done < length; done += PIECE)
    await device.read(offset + done, length - done < PIECE ? scratch.subarray(0, length - done) : scratch);
}
