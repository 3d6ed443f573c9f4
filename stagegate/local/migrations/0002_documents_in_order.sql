-- The documents of a kind in the order in which they first came: a page of the latest is read without the rest.
CREATE INDEX documents_in_order ON documents (kind, id, key)
