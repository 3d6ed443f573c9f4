"""The console: web pages that show releases. They read AWS through boto3 alone, here and in an account."""
