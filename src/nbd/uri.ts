/**
 * NBD URIs (doc/uri.md of NetworkBlockDevice/nbd): nbd://host[:port]/export and nbd+unix:///export?socket=PATH, with nbds and
 * nbds+unix for TLS and libnbd's parameters for it: tls-certificates, tls-psk-file, tls-hostname, tls-verify-peer, and the name
 * before @ for a pre-shared key. Not supported: vsock.
 */
import { DiskError } from "../errors.js";
import { DEFAULT_PORT, MAX_STRING } from "./codes.js";

export interface NbdAddress {
  /** Where the server listens. */
  readonly target: { readonly path: string } | { readonly host: string; readonly port: number };
  /** Empty: the default export. */
  readonly exportName: string;
  /** Present: the connection must be encrypted. */
  readonly tls?: TlsParameters;
}

export interface TlsParameters {
  /** A folder with ca-cert.pem and perhaps the client's own certificate; by default the system's authorities are trusted. */
  readonly certificates?: string;
  /** A file of pre-shared keys, in the place of certificates. */
  readonly pskFile?: string;
  /** Whose pre-shared key; by default the user's name. */
  readonly username?: string;
  /** The name that the server's certificate must bear; by default the host. Unix sockets have no name to compare. */
  readonly hostname?: string;
  /** False: any certificate will do, so that anybody can be the server. */
  readonly verifyPeer?: boolean;
}

/** `sun_path` of Linux without its final zero, in bytes. */
export const MAX_SOCKET_PATH = 107;

/** RFC 3986, appendix B, with the authority cut into host and port. */
const URI = /^([a-z][a-z0-9+.-]*):(?:\/\/([^/?#]*))?([^?#]*)(?:\?([^#]*))?$/i;
const AUTHORITY = /^(?:([^@]*)@)?(\[[0-9a-f:.%]+\]|[^:[\]]*)(?::([0-9]*))?$/i;

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
  const kind = /^nbd(s?)(\+unix)?$/i.exec(scheme);
  if (!kind) return fail(uri, `the scheme is ${scheme}, allowed nbd, nbds, nbd+unix and nbds+unix`);
  const [, encrypted, unix] = kind;
  const parameters = parseQuery(uri, query, encrypted ? [...TLS_PARAMETERS, "socket"] : ["socket"]);
  if (!unix && parameters.has("socket"))
    fail(uri, `socket is given with the scheme ${scheme}, allowed with ${scheme}+unix`);
  const { username, ...server } = parseAuthority(uri, authority);
  const tls = encrypted ? { tls: parseTls(uri, username, parameters) } : {};
  return { target: unix ? { path: socketPath(uri, parameters.get("socket")) } : server, exportName, ...tls };
}

/** The URI that `parseNbdUri` reads back as the same address. */
export function printNbdUri({ target, exportName, tls }: NbdAddress): string {
  // The export name is one opaque string: its slashes stay readable, all else is escaped.
  const name = escaped(exportName);
  const user = tls?.username ? `${encodeURIComponent(tls.username)}@` : "";
  const scheme = tls ? "nbds" : "nbd";
  if ("path" in target)
    return `${scheme}+unix://${user}/${name}${printQuery({ socket: target.path, ...printTls(tls) })}`;
  const host = target.host.includes(":") ? `[${target.host}]` : target.host;
  const port = target.port === DEFAULT_PORT ? "" : `:${target.port}`;
  return `${scheme}://${user}${host}${port}/${name}${printQuery(printTls(tls))}`;
}

function printTls(tls: TlsParameters = {}): Record<string, string | undefined> {
  return {
    "tls-certificates": tls.certificates,
    "tls-psk-file": tls.pskFile,
    "tls-hostname": tls.hostname,
    "tls-verify-peer": tls.verifyPeer === false ? "false" : undefined,
  };
}

function printQuery(parameters: Record<string, string | undefined>): string {
  const parts = Object.entries(parameters).flatMap(([key, value]) => (value ? [`${key}=${escaped(value)}`] : []));
  return parts.length === 0 ? "" : `?${parts.join("&")}`;
}

function escaped(text: string): string {
  return encodeURIComponent(text).replaceAll("%2F", "/");
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

function parseAuthority(uri: string, authority: string): { host: string; port: number; username: string | undefined } {
  const [, username, host = "", port = ""] =
    AUTHORITY.exec(authority) ?? fail(uri, `the authority is ${JSON.stringify(authority)}, allowed host[:port]`);
  const number = port === "" ? DEFAULT_PORT : Number(port);
  if (number < 1 || number > 65535) fail(uri, `the port is ${port}, allowed 1..65535`);
  const name = decode(uri, host.replace(/^\[|\]$/g, "")) || "localhost";
  return { host: name, port: number, username: username ? decode(uri, username) : undefined };
}

const TLS_PARAMETERS: readonly string[] = ["tls-certificates", "tls-psk-file", "tls-hostname", "tls-verify-peer"];

function parseQuery(uri: string, query: string, allowed: readonly string[]): ReadonlyMap<string, string> {
  const parameters = new Map<string, string>();
  for (const part of query.split("&")) {
    if (part === "") continue;
    const [key = "", ...value] = part.split("=");
    // A tls-… parameter that was silently dropped would leave a connection in the clear that somebody meant to protect.
    if (!allowed.includes(key))
      fail(
        uri,
        `the parameter is ${JSON.stringify(key)}, allowed ${allowed.map((name) => JSON.stringify(name)).join(", ")}`,
      );
    if (parameters.has(key)) fail(uri, `${key} is given twice`);
    parameters.set(key, decode(uri, value.join("=")));
  }
  return parameters;
}

function parseTls(uri: string, username: string | undefined, parameters: ReadonlyMap<string, string>): TlsParameters {
  const [certificates, pskFile, hostname, verify] = TLS_PARAMETERS.map((name) => parameters.get(name));
  if (certificates && pskFile) fail(uri, "tls-certificates and tls-psk-file are given, allowed one of them");
  if (verify !== undefined && !/^(true|false|1|0)$/i.test(verify))
    fail(uri, `tls-verify-peer is ${JSON.stringify(verify)}, allowed true and false`);
  return {
    ...(certificates ? { certificates } : {}),
    ...(pskFile ? { pskFile } : {}),
    ...(username ? { username } : {}),
    ...(hostname ? { hostname } : {}),
    ...(verify !== undefined && /^(false|0)$/i.test(verify) ? { verifyPeer: false } : {}),
  };
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
