/**
 * NBD URIs (doc/uri.md of NetworkBlockDevice/nbd): nbd://host[:port]/export and nbd+unix:///export?socket=PATH.
 * Not supported: nbds and nbds+unix (TLS), vsock.
 */
import { DiskError } from "../errors.js";
import { DEFAULT_PORT, MAX_STRING } from "./codes.js";

export interface NbdAddress {
  /** Where the server listens. */
  readonly target: { readonly path: string } | { readonly host: string; readonly port: number };
  /** Empty: the default export. */
  readonly exportName: string;
}

/** `sun_path` of Linux without its final zero, in bytes. */
export const MAX_SOCKET_PATH = 107;

/** RFC 3986, appendix B, with the authority cut into host and port. */
const URI = /^([a-z][a-z0-9+.-]*):(?:\/\/([^/?#]*))?([^?#]*)(?:\?([^#]*))?$/i;
const AUTHORITY = /^(?:[^@]*@)?(\[[0-9a-f:.%]+\]|[^:[\]]*)(?::([0-9]*))?$/i;

/** Whether `text` has one of the schemes of NBD URIs, supported or not. */
export function isNbdUri(text: string): boolean {
  return /^nbds?(\+unix|\+vsock)?:/i.test(text);
}

export function parseNbdUri(uri: string): NbdAddress {
  const [, scheme = "", authority = "", path = "", query = ""] = URI.exec(uri) ?? fail(uri, "it is no URI");
  const exportName = decode(uri, path.replace(/^\//, ""));
  if (Buffer.byteLength(exportName) > MAX_STRING)
    fail(uri, `the export name has ${Buffer.byteLength(exportName)} bytes, allowed 0..${MAX_STRING}`);
  if (exportName.includes("\0")) fail(uri, "the export name contains a zero byte");
  const parameters = parseQuery(uri, query);
  switch (scheme.toLowerCase()) {
    case "nbd":
      if (parameters.has("socket")) fail(uri, "socket is given with the scheme nbd, allowed with nbd+unix");
      return { target: parseAuthority(uri, authority), exportName };
    case "nbd+unix":
      return { target: { path: socketPath(uri, parameters.get("socket")) }, exportName };
    default:
      return fail(
        uri,
        `the scheme is ${scheme}, allowed nbd and nbd+unix${/^nbds/i.test(scheme) ? " (TLS is not supported yet)" : ""}`,
      );
  }
}

/** The URI that `parseNbdUri` reads back as the same address. */
export function printNbdUri({ target, exportName }: NbdAddress): string {
  // The export name is one opaque string: its slashes stay readable, all else is escaped.
  const name = encodeURIComponent(exportName).replaceAll("%2F", "/");
  if ("path" in target) return `nbd+unix:///${name}?socket=${encodeURIComponent(target.path).replaceAll("%2F", "/")}`;
  const host = target.host.includes(":") ? `[${target.host}]` : target.host;
  return `nbd://${host}${target.port === DEFAULT_PORT ? "" : `:${target.port}`}/${name}`;
}

/** Refuses what the operating system would cut off or refuse without a reason. */
export function checkSocketPath(verb: string, path: string): void {
  const length = Buffer.byteLength(path);
  if (length > MAX_SOCKET_PATH)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot ${verb} socket ${JSON.stringify(path)}: the path has ${length} bytes, allowed 1..${MAX_SOCKET_PATH}`,
    );
}

function parseAuthority(uri: string, authority: string): { host: string; port: number } {
  const [, host = "", port = ""] =
    AUTHORITY.exec(authority) ?? fail(uri, `the authority is ${JSON.stringify(authority)}, allowed host[:port]`);
  const number = port === "" ? DEFAULT_PORT : Number(port);
  if (number < 1 || number > 65535) fail(uri, `the port is ${port}, allowed 1..65535`);
  return { host: decode(uri, host.replace(/^\[|\]$/g, "")) || "localhost", port: number };
}

function parseQuery(uri: string, query: string): ReadonlyMap<string, string> {
  const parameters = new Map<string, string>();
  for (const part of query.split("&")) {
    if (part === "") continue;
    const [key = "", ...value] = part.split("=");
    // A tls-… parameter that was silently dropped would leave a connection in the clear that somebody meant to protect.
    if (key !== "socket") fail(uri, `the parameter is ${JSON.stringify(key)}, allowed "socket"`);
    if (parameters.has(key)) fail(uri, `${key} is given twice`);
    parameters.set(key, decode(uri, value.join("=")));
  }
  return parameters;
}

function socketPath(uri: string, path: string | undefined): string {
  if (!path) return fail(uri, "it has no parameter socket, nbd+unix needs one");
  checkSocketPath("connect to", path);
  return path;
}

function decode(uri: string, text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return fail(uri, `${JSON.stringify(text)} is not percent-encoded UTF-8`);
  }
}

function fail(uri: string, found: string): never {
  throw new DiskError("UNSUPPORTED", `Cannot open ${JSON.stringify(uri)}: ${found}`);
}
