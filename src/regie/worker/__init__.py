"""Work: loads the catalogue, carries out blocks through the gateway. Holds no secret and knows no connector."""
