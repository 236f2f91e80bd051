/** The daemon's control API: JSON over HTTP on a unix socket, one route a line. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { DiskError } from "../errors.js";
import type { AttachedDevice, Dom0Status, DomainInfo } from "./api-types.js";
import { createConfiguredDomain } from "./configured-domain.js";
import type { Host } from "./host.js";
import { attachRequest, createDomainRequest, resizeRequest } from "./requests.js";
import { plainError } from "./thread-rpc.js";

export interface ApiContext {
  readonly host: Host;
  status(): Promise<Dom0Status>;
  /** Called when a client has asked the daemon to stop and was answered. */
  stop(): void;
}

interface Call {
  readonly words: readonly string[];
  readonly query: URLSearchParams;
  readonly body: Record<string, unknown>;
}

interface Route {
  run(context: ApiContext, call: Call): Promise<unknown>;
  /** Takes the result back when its client was gone before it could be told: an interrupted attach attaches nothing. */
  undo?(context: ApiContext, result: never): Promise<unknown>;
}

const ROUTES: Readonly<Record<string, Route>> = {
  "GET status": { run: (context) => context.status() },
  "GET domains": { run: ({ host }) => host.domains() },
  "POST domains": {
    run: ({ host }, { body }) => createConfiguredDomain(host, createDomainRequest(body)),
    undo: ({ host }, { domid }: DomainInfo) => host.destroyDomain(String(domid)),
  },
  "DELETE domains": { run: ({ host }, { words }) => host.destroyDomain(words[0] ?? "").then(() => ({})) },
  "POST devices": {
    run: ({ host }, { body }) => host.attach(attachRequest(body)),
    undo: ({ host }, { number, domid }: AttachedDevice) =>
      host.detach(String(number), { domain: String(domid), force: true }),
  },
  "DELETE devices": {
    run({ host }, { words, query }) {
      const domain = query.get("domain");
      return host.detach(words[0] ?? "", {
        force: query.get("force") === "1",
        ...(domain === null ? {} : { domain }),
      });
    },
  },
  "POST resize": { run: ({ host }, { words, body }) => host.resize(words[0] ?? "", resizeRequest(body)) },
  "GET block-devices": { run: ({ host }, { words }) => host.blockDevices(words[0] ?? "") },
  "POST stop": { run: ({ host }) => host.stop().then(() => ({})) },
};

const MAX_BODY = 1 << 20;

/** Answers one request; every failure is a JSON error in the form of the command line. */
export async function answer(context: ApiContext, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? "/", "http://dom0");
  const [resource = "", ...words] = url.pathname.split("/").filter(Boolean).map(decodeURIComponent);
  const name = `${request.method} ${resource}`;
  try {
    const route = Object.hasOwn(ROUTES, name) ? ROUTES[name] : undefined;
    if (!route) throw new DiskError("NOT_FOUND", `Cannot answer ${name}: there is no such route`);
    const result = await route.run(context, { words, query: url.searchParams, body: await readBody(request) });
    if (response.destroyed) await route.undo?.(context, result as never);
    else send(response, 200, result);
    if (name === "POST stop") context.stop();
  } catch (error) {
    send(response, 400, { error: plainError(error) });
  }
}

function send(response: ServerResponse, status: number, document: unknown): void {
  const bytes = Buffer.from(JSON.stringify(document));
  response.writeHead(status, { "content-type": "application/json", "content-length": bytes.length });
  response.end(bytes);
}

async function readBody(request: IncomingMessage): Promise<Record<string, unknown>> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += (chunk as Buffer).length;
    if (size > MAX_BODY)
      throw new DiskError("PROTOCOL", `Cannot read the request: its body is larger than ${MAX_BODY} bytes`);
    chunks.push(chunk as Buffer);
  }
  if (size === 0) return {};
  let document: unknown;
  try {
    document = JSON.parse(Buffer.concat(chunks).toString("utf8"));
  } catch (error) {
    throw new DiskError("PROTOCOL", "Cannot read the request: its body is no JSON", { cause: error });
  }
  if (typeof document !== "object" || document === null || Array.isArray(document))
    throw new DiskError("PROTOCOL", "Cannot read the request: its body is no JSON object");
  return document as Record<string, unknown>;
}
