/** A text argument that is a file's name, or `-` for standard input. */
import { DiskError } from "../../../errors.js";
import { openFile } from "../../../os/file.js";
import { pathExists } from "../../../os/paths.js";

/** Scripts are small; what is larger was meant to be something else. */
const MAX_TEXT = 1 << 20;

/** Null when there is no such file, unless it is `required`: then `NOT_FOUND`. */
export async function readText(name: string, required = false): Promise<string | null> {
  if (name === "-") return readInput();
  if (!required && !pathExists(name)) return null;
  const file = await openFile(name);
  try {
    if (file.size > MAX_TEXT) throw tooLong(name);
    const bytes = new Uint8Array(file.size);
    await file.read(0, bytes);
    return Buffer.from(bytes).toString("utf8");
  } finally {
    await file.close();
  }
}

async function readInput(): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of process.stdin) {
    length += chunk.length;
    if (length > MAX_TEXT) throw tooLong("standard input");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function tooLong(name: string): DiskError {
  return new DiskError(
    "UNSUPPORTED",
    `Cannot read a script from ${JSON.stringify(name)}: it is longer than ${MAX_TEXT} bytes`,
  );
}
