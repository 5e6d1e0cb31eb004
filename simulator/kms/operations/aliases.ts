/**
 * CreateAlias, UpdateAlias, DeleteAlias, ListAliases (AWS KMS API reference, the pages of these names). Whoever
 * changes an alias needs the right on the alias, which only IAM can give, and on every key that it names.
 */
import type { Alias } from '../aliases.ts';
import { authorize } from '../authorize.ts';
import { type Answer, type Call, keyOnly, wireTime } from '../call.ts';
import { KmsException, validation } from '../exception.ts';
import { pageOf } from './common.ts';

const NAME = /^alias\/[A-Za-z0-9/_-]+$/;
const RESERVED = 'alias/aws/';

export function createAlias(call: Call): Answer {
  const { world, caller, at } = call;
  const name = requestedName(call);
  const key = keyOnly(call, 'TargetKeyId');
  call.input.end();
  call.note.requestParameters = { aliasName: name, targetKeyId: key.id };
  const arn = world.keys.aliasArn(caller.identity.accountId, name);
  authorize(call, { aliasArn: arn });
  authorize(call, { key, context: { 'kms:RequestAlias': [name] } });
  if (world.keys.aliases.get(arn) !== undefined) {
    throw new KmsException('AlreadyExistsException', `An alias with the name ${arn} already exists`);
  }
  const { accountId } = caller.identity;
  world.keys.aliases.add({ name, arn, accountId, targetKeyId: key.id, createdAt: at, updatedAt: at });
  return {};
}

export function updateAlias(call: Call): Answer {
  const name = requestedName(call);
  const key = keyOnly(call, 'TargetKeyId');
  call.input.end();
  call.note.requestParameters = { aliasName: name, targetKeyId: key.id };
  const alias = existing(call, name);
  const current = call.world.keys.find(alias.targetKeyId, alias.accountId, { aliases: false });
  authorize(call, { aliasArn: alias.arn });
  for (const end of [current, key]) authorize(call, { key: end });
  alias.targetKeyId = key.id;
  alias.updatedAt = call.at;
  return {};
}

export function deleteAlias(call: Call): Answer {
  const name = requestedName(call);
  call.input.end();
  call.note.requestParameters = { aliasName: name };
  const alias = existing(call, name);
  const key = call.world.keys.find(alias.targetKeyId, alias.accountId, { aliases: false });
  call.note.key = key;
  authorize(call, { aliasArn: alias.arn });
  authorize(call, { key });
  call.world.keys.aliases.delete(alias.arn);
  return {};
}

export function listAliases(call: Call): Answer {
  const { input, world, caller, note } = call;
  const key = input.has('KeyId') ? keyOnly(call, 'KeyId') : undefined;
  const page = pageOf(call, { most: 100, usual: 50 });
  input.end();
  note.requestParameters = key === undefined ? {} : { keyId: key.arn };
  authorize(call, {});
  const aliases = world.keys.aliases
    .ofAccount(caller.identity.accountId)
    .filter(({ targetKeyId }) => targetKeyId === (key?.id ?? targetKeyId));
  return page('Aliases', aliases, ({ name }) => name, shown);
}

function shown({ name, arn, targetKeyId, createdAt, updatedAt }: Alias): Answer {
  return {
    AliasName: name,
    AliasArn: arn,
    TargetKeyId: targetKeyId,
    CreationDate: wireTime(createdAt),
    LastUpdatedDate: wireTime(updatedAt),
  };
}

function requestedName({ input }: Call): string {
  const name = input.requiredString('AliasName', { max: 256 });
  if (!NAME.test(name))
    throw validation('aliasName', 'Member must satisfy regular expression pattern: ^alias/[a-zA-Z0-9/_-]+$');
  if (name.startsWith(RESERVED)) throw new KmsException('NotAuthorizedException', '');
  return name;
}

function existing({ world, caller }: Call, name: string): Alias {
  const arn = world.keys.aliasArn(caller.identity.accountId, name);
  const alias = world.keys.aliases.get(arn);
  if (alias === undefined) throw new KmsException('NotFoundException', `Alias ${arn} is not found.`);
  return alias;
}
