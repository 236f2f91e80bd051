/** The server's end of STARTTLS: a plain socket becomes an encrypted one. TLS 1.2 or newer, with certificates or pre-shared keys. */
import type { Socket } from "node:net";
import { createServer, type TLSSocket, type TlsOptions } from "node:tls";
import type { TlsCredentials } from "./tls-credentials.js";

export interface ServerTls {
  readonly credentials: TlsCredentials;
  /** Default true: every client must encrypt, nothing else is answered. False: clients may, and exports may demand it. */
  readonly required?: boolean;
  /** Clients must show a certificate that an authority of the credentials signed. */
  readonly verifyClients?: boolean;
}

/** The socket is the encrypted stream's from now on; rejects when the client does not come through. */
export function encryptServerSide(socket: Socket, tls: ServerTls): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    // A server of its own for each connection: only servers judge client certificates, and it never listens.
    const server = createServer(optionsOf(tls), resolve);
    server.once("tlsClientError", reject);
    socket.once("close", () => reject(new Error("the client hung up")));
    server.emit("connection", socket);
  });
}

function optionsOf({ credentials: { ca, own, psk }, verifyClients = false }: ServerTls): TlsOptions {
  const common = { minVersion: "TLSv1.2" } as const;
  if (psk) return { ...common, ciphers: "PSK", pskCallback: (_socket, identity) => psk.get(identity) ?? null };
  return { ...common, ...own, ...(ca === undefined ? {} : { ca }), requestCert: verifyClients };
}
