/** The client's end of STARTTLS: a plain socket becomes an encrypted one, to the server that the URI means. */
import { isIP, type Socket } from "node:net";
import { userInfo } from "node:os";
import { type ConnectionOptions, connect, type TLSSocket } from "node:tls";
import { DiskError, fromErrno } from "../errors.js";
import { readClientCredentials, readPskFile, type TlsCredentials } from "./tls-credentials.js";
import type { NbdAddress, TlsParameters } from "./uri.js";

/** What an encrypted connection is made with; read once, since a reconnect must not depend on files that change. */
export interface ClientTls {
  readonly options: ConnectionOptions;
}

/** Undefined where no TLS is wanted. Throws `NOT_FOUND` for files that are not there. */
export function clientTls({ target, tls }: NbdAddress, label: string): ClientTls | undefined {
  if (!tls) return undefined;
  const common = { minVersion: "TLSv1.2" } as const;
  if (tls.pskFile !== undefined) return { options: { ...common, ...pskOptions(tls, tls.pskFile, label) } };
  const { ca, own }: TlsCredentials = tls.certificates === undefined ? {} : readClientCredentials(tls.certificates);
  const options = { ...common, ...own, ...(ca === undefined ? {} : { ca }) };
  if (tls.verifyPeer === false) return { options: { ...options, rejectUnauthorized: false } };
  const host = tls.hostname ?? ("host" in target ? target.host : undefined);
  // The certificate of a server on a unix socket is judged by who signed it: there is no name that it could be for.
  if (host === undefined) return { options: { ...options, checkServerIdentity: () => undefined } };
  return { options: { ...options, host, servername: isIP(host) === 0 ? host : "" } };
}

function pskOptions(tls: TlsParameters, file: string, label: string): ConnectionOptions {
  const { psk: keys } = readPskFile(file);
  const identity = tls.username ?? userInfo().username;
  const psk = keys!.get(identity);
  if (!psk)
    throw new DiskError("NOT_FOUND", `Cannot open ${label}: ${JSON.stringify(file)} has no key for ${identity}`);
  // Who proves that it has the key is the server.
  return { ciphers: "PSK", checkServerIdentity: () => undefined, pskCallback: () => ({ psk, identity }) };
}

/** The socket is the encrypted stream's from now on. */
export function encryptClientSide(socket: Socket, { options }: ClientTls, label: string): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const stream = connect({ ...options, socket });
    const fail = (error: unknown) => reject(tlsError(label, error));
    stream.once("error", fail);
    stream.once("close", () => fail(new Error("the server hung up")));
    stream.once("secureConnect", () => {
      stream.off("error", fail);
      resolve(stream);
    });
  });
}

/** An error of the stream in the words of this program; OpenSSL's own come with files and lines of its source. */
export function tlsError(label: string, error: unknown): DiskError {
  const { code = "", message, reason } = error as NodeJS.ErrnoException & { readonly reason?: string };
  if (/CERT|SIGNED|ISSUER|ALTNAME/.test(code))
    return new DiskError("DENIED", `Cannot open ${label}: the server's certificate is not accepted (${message})`, {
      details: { errno: code },
      cause: error,
    });
  if (reason !== undefined)
    return new DiskError("DENIED", `Cannot open ${label}: the server refuses this client (${reason})`, {
      cause: error,
    });
  return fromErrno(`use ${label}`, error);
}
