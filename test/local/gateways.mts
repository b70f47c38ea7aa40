import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { createServer as createHttpServer, request as forward, type IncomingMessage } from 'node:http'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import path from 'node:path'
import { createServer as createTlsServer } from 'node:tls'

/** What stands between a client and a server. */
export interface Gateway {
  url: string
  close(): Promise<void>
}

/** A private key and a self-signed certificate, both as PEM. */
export interface Certificate {
  key: string
  cert: string
}

/** Makes a certificate for a name, valid from and to so many days from now. `python` is the bin folder of the .venv. */
export function makeCertificate(python: string, name = '127.0.0.1', from = -1, to = 1): Certificate {
  const program = path.join(import.meta.dirname, 'certificate.py')
  const pem = execFileSync(path.join(python, 'python'), [program, name, String(from), String(to)], { encoding: 'utf8' })
  const begin = pem.indexOf('-----BEGIN CERTIFICATE')
  return { key: pem.slice(0, begin), cert: pem.slice(begin) }
}

/** Speaks TLS with clients and hands what they say on to `target`, an http URL on this machine. */
export async function startTls(target: string, certificate: Certificate): Promise<Gateway> {
  const { hostname, port } = new URL(target)
  const server = createTlsServer({ ...certificate }, (client) => join(client, connect(Number(port), hostname)))
  // A client that does not like the certificate says so and leaves.
  server.on('tlsClientError', () => undefined)
  return serve(server, 'https')
}

/** Hangs up on every connection in the middle of its TLS handshake. */
export async function startHangUp(): Promise<Gateway> {
  const server = createServer((socket) => socket.once('data', () => socket.destroy()))
  return serve(server, 'https')
}

export interface ProxyGateway extends Gateway {
  /** What clients asked for: `GET http://…` or `CONNECT host:port`. */
  asked: string[]
}

/** An HTTP proxy: plain requests and tunnels. With `login` (`user:password`) it serves nobody else. */
export async function startProxy(login?: string): Promise<ProxyGateway> {
  const asked: string[] = []
  const admits = (request: IncomingMessage) => {
    asked.push(`${request.method} ${request.url}`)
    const wanted = login && `Basic ${Buffer.from(login).toString('base64')}`
    return !wanted || request.headers['proxy-authorization'] === wanted
  }
  const server = createHttpServer((incoming, outgoing) => {
    if (!admits(incoming)) {
      outgoing.writeHead(407).end()
      return
    }
    const { 'proxy-authorization': _, ...headers } = incoming.headers
    const onward = forward(incoming.url ?? '', { method: incoming.method, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.pipe(outgoing)
    })
    onward.on('error', () => outgoing.destroy())
    incoming.pipe(onward)
  })
  server.on('connect', (request, client: Socket) => {
    if (!admits(request)) {
      client.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n')
      return
    }
    const [host, port] = (request.url ?? '').split(':')
    client.write('HTTP/1.1 200 Connection Established\r\n\r\n')
    join(client, connect(Number(port), host))
  })
  return { ...(await serve(server, 'http')), asked }
}

/** What one side says, the other hears; when one leaves, so does the other. */
function join(left: Socket, right: Socket): void {
  left.pipe(right)
  right.pipe(left)
  for (const [one, other] of [
    [left, right],
    [right, left],
  ] as const) {
    one.on('error', () => other.destroy())
    one.on('close', () => other.destroy())
  }
}

async function serve(server: Server, scheme: string): Promise<Gateway> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => undefined)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `${scheme}://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: async () => {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}
