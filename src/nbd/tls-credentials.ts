/**
 * Certificates and keys for TLS, in a folder with the file names that QEMU, libnbd and nbdkit use:
 * ca-cert.pem, server-cert.pem and server-key.pem, client-cert.pem and client-key.pem, or keys.psk.
 */
import { join } from "node:path";
import { createSecureContext } from "node:tls";
import { DiskError } from "../errors.js";
import { readTextFile } from "../os/text-file.js";

export interface TlsCredentials {
  /** PEM of the authorities that sign the other side's certificate. */
  readonly ca?: string;
  /** PEM of the own certificate, and its key. */
  readonly own?: { readonly cert: string; readonly key: string };
  /** Keys shared beforehand, by the name of who uses them. With these no certificate is used. */
  readonly psk?: ReadonlyMap<string, Buffer>;
}

const MAX_FILE = 1 << 20;

/** A server's folder: a certificate with its key, or keys.psk. Throws `NOT_FOUND` when neither is there. */
export function readServerCredentials(folder: string): TlsCredentials {
  const own = readPair(folder, "server");
  const ca = readTextFile(join(folder, "ca-cert.pem"), MAX_FILE);
  if (own) return checked(folder, { own, ...(ca === null ? {} : { ca }) });
  const keys = join(folder, "keys.psk");
  const text = readTextFile(keys, MAX_FILE);
  if (text !== null) return { psk: parsePskFile(keys, text) };
  throw new DiskError(
    "NOT_FOUND",
    `Cannot use TLS with ${JSON.stringify(folder)}: it has no server-cert.pem with server-key.pem, and no keys.psk`,
  );
}

/** A client's folder: authorities, and where the server asks for one a certificate with its key. */
export function readClientCredentials(folder: string): TlsCredentials {
  const ca = readTextFile(join(folder, "ca-cert.pem"), MAX_FILE);
  const own = readPair(folder, "client");
  if (ca === null && !own)
    throw new DiskError("NOT_FOUND", `Cannot use TLS with ${JSON.stringify(folder)}: it has no ca-cert.pem`);
  return checked(folder, { ...(ca === null ? {} : { ca }), ...(own ? { own } : {}) });
}

/** The keys of a file as psktool(1) writes it. */
export function readPskFile(path: string): TlsCredentials {
  const text = readTextFile(path, MAX_FILE);
  if (text === null)
    throw new DiskError("NOT_FOUND", `Cannot use TLS with ${JSON.stringify(path)}: no such file or directory`);
  return { psk: parsePskFile(path, text) };
}

function readPair(folder: string, who: "server" | "client"): { cert: string; key: string } | undefined {
  const [cert, key] = ["cert", "key"].map((what) => readTextFile(join(folder, `${who}-${what}.pem`), MAX_FILE));
  if (cert == null && key == null) return undefined;
  if (cert != null && key != null) return { cert, key };
  const missing = `${who}-${cert == null ? "cert" : "key"}.pem`;
  throw new DiskError("NOT_FOUND", `Cannot use TLS with ${JSON.stringify(folder)}: it has no ${missing}`);
}

/** Bad files are told at once, not when the first connection comes. */
function checked(folder: string, credentials: TlsCredentials): TlsCredentials {
  try {
    createSecureContext({ ...credentials.own, ...(credentials.ca === undefined ? {} : { ca: credentials.ca }) });
    return credentials;
  } catch (error) {
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot use TLS with ${JSON.stringify(folder)}: its certificates and keys are not usable (${(error as Error).message})`,
      { cause: error },
    );
  }
}

/** Lines of NAME:HEX; empty lines and such that begin with # are none. The key never appears in an error. */
function parsePskFile(path: string, text: string): ReadonlyMap<string, Buffer> {
  const keys = new Map<string, Buffer>();
  for (const [i, line] of text.split(/\r?\n/).entries()) {
    if (line === "" || line.startsWith("#")) continue;
    const [, name, hex] = /^([^:]+):((?:[0-9a-f]{2})+)\s*$/i.exec(line) ?? [];
    if (!name || !hex)
      throw new DiskError(
        "UNSUPPORTED",
        `Cannot use TLS with ${JSON.stringify(path)}: line ${i + 1} is no NAME:KEY with a key in hexadecimal`,
      );
    keys.set(name, Buffer.from(hex, "hex"));
  }
  if (keys.size === 0)
    throw new DiskError("UNSUPPORTED", `Cannot use TLS with ${JSON.stringify(path)}: it holds no key`);
  return keys;
}
