/**
 * An S3-compatible bucket as a place for objects: where its keys are, and the signature of each request (AWS Signature Version 4,
 * by aws4fetch). The settings are the variables that AWS' own tools read. Secrets are in the signature only.
 */
import { createHash } from 'node:crypto';
import { AwsV4Signer } from 'aws4fetch';
import { TsrtError } from '../../errors.ts';
import type { ObjectTarget } from './http.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** `s3://bucket/prefix` by the environment. Throws USAGE for a URL that is none. */
export function s3Target(store: string, environment: Environment): ObjectTarget {
  const [, bucket = '', path = ''] = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(\/[A-Za-z0-9._/-]*)?$/i.exec(store) ?? [];
  if (bucket === '') {
    throw new TsrtError('USAGE', '--store is not an S3 location', { fix: 'write s3://BUCKET/PREFIX; credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY' });
  }
  const region = environment['AWS_REGION'] || environment['AWS_DEFAULT_REGION'] || 'us-east-1';
  const sessionToken = environment['AWS_SESSION_TOKEN'] || undefined;
  const prefix = path.split('/').filter((part) => part !== '').join('/');
  const base = [bucketUrl(bucket, region, environment), ...(prefix === '' ? [] : [prefix])].join('/');
  return {
    label: ['s3:/', bucket, ...(prefix === '' ? [] : [prefix])].join('/'),
    urlOf: (key) => `${base}/${key}`,
    async headers({ method, url, headers, body }) {
      const { accessKeyId, secretAccessKey } = credentialsOf(environment, store);
      const hash = createHash('sha256').update(body ?? '').digest('hex');
      const signer = new AwsV4Signer({
        method,
        url,
        headers: { ...headers, 'x-amz-content-sha256': hash },
        accessKeyId,
        secretAccessKey,
        ...(sessionToken !== undefined && { sessionToken }),
        service: 's3',
        region,
      });
      const signed = await signer.sign();
      const added = [...signed.headers].filter(([name]) => name !== 'host');
      return Object.fromEntries(added);
    },
    denied:
      'check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, and that the key may s3:GetObject, s3:PutObject and s3:ListBucket (without the last, S3 answers 403 for what is not there yet)',
  };
}

/** Asked for with each request and not before: a command that reads a file needs none. Throws STORE_UNAVAILABLE. */
function credentialsOf(environment: Environment, store: string): { readonly accessKeyId: string; readonly secretAccessKey: string } {
  const accessKeyId = environment['AWS_ACCESS_KEY_ID'];
  const secretAccessKey = environment['AWS_SECRET_ACCESS_KEY'];
  if (accessKeyId && secretAccessKey) return { accessKeyId, secretAccessKey };
  throw new TsrtError('STORE_UNAVAILABLE', `there are no credentials for ${store}`, {
    fix: 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN if they are temporary)',
  });
}

/** Path style where an endpoint is given or the bucket's dots would break TLS, virtual hosts else. */
function bucketUrl(bucket: string, region: string, environment: Environment): string {
  const endpoint = environment['AWS_ENDPOINT_URL_S3'] || environment['AWS_ENDPOINT_URL'];
  if (endpoint) {
    if (!/^https?:\/\/[^@?#]+$/.test(endpoint)) {
      throw new TsrtError('USAGE', 'AWS_ENDPOINT_URL is not a plain http:// or https:// URL', { fix: 'write it as https://host, without a user or a query' });
    }
    return `${endpoint.replace(/\/+$/, '')}/${bucket}`;
  }
  const host = `s3.${region}.amazonaws.com`;
  return bucket.includes('.') ? `https://${host}/${bucket}` : `https://${bucket}.${host}`;
}
