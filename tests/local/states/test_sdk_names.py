"""Members and exceptions are named as the AWS SDK for Java 2 names them."""

import pytest

from stagegate.local.states.sdk_names import exception_name, member_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("keyId", "KeyId"),
        ("ETag", "ETag"),
        ("S", "S"),
        ("SS", "Ss"),
        ("BOOL", "Bool"),
        ("NULL", "Nul"),
        ("ARN", "Arn"),
        ("DBInstances", "DbInstances"),
        ("SSEKMSKeyId", "SsekmsKeyId"),
        ("ChecksumCRC32", "ChecksumCRC32"),
    ],
)
def test_a_member_s_first_abbreviation_is_a_word(name, expected):
    assert member_name(name) == expected


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("NoSuchBucket", "NoSuchBucketException"),
        ("ExecutionDoesNotExist", "ExecutionDoesNotExistException"),
        ("ResourceNotFoundException", "ResourceNotFoundException"),
        ("DBInstanceNotFoundFault", "DbInstanceNotFoundException"),
        ("EC2ThrottledException", "Ec2ThrottledException"),
        ("KMSAccessDeniedException", "KmsAccessDeniedException"),
    ],
)
def test_every_abbreviation_in_an_exception_is_a_word(shape, expected):
    assert exception_name(shape) == expected
