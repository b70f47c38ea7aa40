import { signedHeaders } from './spaces/signature.mts'

/** Where an S3 server is and who may use it. */
export interface S3 {
  url: string
  accessKey: string
  secretKey: string
  close(): Promise<void>
}

/** Creates a bucket in the server's own region. */
export async function createBucket(s3: S3, name: string): Promise<void> {
  const url = new URL(`${s3.url}/${name}`)
  const headers = signedHeaders({ method: 'PUT', url }, s3, 'us-east-1')
  const answer = await fetch(url, { method: 'PUT', headers })
  if (!answer.ok) throw new Error(`PUT ${url}: ${answer.status} ${await answer.text()}`)
}
